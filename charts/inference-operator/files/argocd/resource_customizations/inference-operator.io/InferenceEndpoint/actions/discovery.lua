local annotations = obj.metadata.annotations or {}
local deleting = obj.metadata.deletionTimestamp ~= nil
local suspended_in_spec = obj.spec.suspend == true
local suspended = suspended_in_spec or annotations["inference-operator.io/suspend"] == "true"

return {
  ["refresh"] = {
    ["displayName"] = "Refresh: read the provider now",
    ["iconClass"] = "fa fa-fw fa-sync",
    ["disabled"] = deleting or suspended,
  },
  ["reapply"] = {
    ["displayName"] = "Reapply: send the spec once more (makes a version)",
    ["iconClass"] = "fa fa-fw fa-paper-plane",
    ["disabled"] = deleting or suspended or obj.spec.managementPolicy == "Observe",
  },
  ["suspend"] = {
    ["displayName"] = "Suspend: no more calls to the provider",
    ["iconClass"] = "fa fa-fw fa-pause",
    ["disabled"] = deleting or suspended,
  },
  -- The annotation is all that an action may change: spec.suspend belongs to Git.
  ["resume"] = {
    ["displayName"] = "Resume",
    ["iconClass"] = "fa fa-fw fa-play",
    ["disabled"] = deleting or suspended_in_spec or not suspended,
  },
}
