local annotations = obj.metadata.annotations or {}
if obj.metadata.deletionTimestamp ~= nil then
  error("The resource is being deleted.", 0)
end
if obj.spec.suspend == true then
  error("The resource is suspended by spec.suspend: change that where the resource comes from.", 0)
end
if annotations["inference-operator.io/suspend"] ~= "true" then
  error("The resource is not suspended.", 0)
end

annotations["inference-operator.io/suspend"] = nil
obj.metadata.annotations = annotations
return obj
