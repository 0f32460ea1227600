local os = require("os")

local annotations = obj.metadata.annotations or {}
if obj.metadata.deletionTimestamp ~= nil then
  error("The resource is being deleted.", 0)
end
if obj.spec.suspend == true or annotations["inference-operator.io/suspend"] == "true" then
  error("The resource is suspended: nothing is sent.", 0)
end
if obj.spec.managementPolicy == "Observe" then
  error("The resource is only observed (spec.managementPolicy): nothing is sent.", 0)
end

annotations["inference-operator.io/reapply-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
obj.metadata.annotations = annotations
return obj
