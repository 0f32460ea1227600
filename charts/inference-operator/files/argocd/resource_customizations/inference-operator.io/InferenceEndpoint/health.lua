-- The status is shaped for kstatus. Unlike it, this tells a suspended resource from one that is being worked on,
-- and gives the message that says what is waited for.

local status = obj.status or {}
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end

-- A difference that is only reported keeps nothing from being ready, so it explains nothing either.
local function telling()
  local synced = found["Synced"]
  if synced ~= nil and synced.status ~= "True" and synced.reason ~= "Drifted" then
    return synced.message
  end
  return found["Ready"] ~= nil and found["Ready"].message or "The operator has not reported yet."
end

-- Before everything else: what stalled an older generation must not fail the sync that mends it.
if status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  if holds("Reconciling") then
    return {status = "Progressing", message = telling()}
  end
  local generation = tostring(obj.metadata.generation)
  return {status = "Progressing", message = "The operator has not handled generation " .. generation .. " yet."}
end

if holds("Stalled") then
  return {status = "Degraded", message = found["Stalled"].message}
end

if holds("Suspended") then
  -- What is in sync and was ready stays Healthy: a suspended resource holds every later sync wave, without end.
  if holds("Ready") then
    return {status = "Healthy", message = "Suspended. " .. found["Ready"].message}
  end
  return {status = "Suspended", message = telling()}
end

if holds("Ready") and not holds("Reconciling") then
  local message = found["Ready"].message
  if found["Synced"] ~= nil and found["Synced"].status ~= "True" then
    message = message .. " " .. found["Synced"].message
  end
  return {status = "Healthy", message = message}
end

return {status = "Progressing", message = telling()}
