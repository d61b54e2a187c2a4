-- Replaces parts of the request's body as the Check decided: dynamic metadata
-- "edits" is a list of {off, len, text}, in order and not overlapping. Every
-- other byte stays as the client sent it.

function envoy_on_request(h)
  local check = h:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  local edits = check and check.edits
  if edits == nil then return end
  local body = h:body()
  if body == nil then return end

  local n, at, parts = body:length(), 0, {}
  for _, e in ipairs(edits) do
    parts[#parts + 1] = body:getBytes(at, e.off - at)
    parts[#parts + 1] = e.text
    at = e.off + e.len
  end
  parts[#parts + 1] = body:getBytes(at, n - at)
  local edited = table.concat(parts)
  body:setBytes(edited)
  if h:headers():get("content-length") ~= nil then
    h:headers():replace("content-length", string.format("%d", #edited))
  end
end
