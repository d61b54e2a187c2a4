-- Watches an admitted request's answer go by and writes down, in the dynamic
-- metadata "tollgate", what the settlement tells (all strings):
--
--   events    data lines of an event stream so far, without a final [DONE]
--   bytes     of the body so far
--   complete  "1" once the end was seen
--   reported  "1" if the answer stated its token usage; then also
--   in, out, cached, created, reasoning: tokens; in and out include the others
--
-- Nothing is held back or changed. events and bytes are kept up to date while
-- the answer runs, for a client that hangs up leaves no later moment.

local NAMESPACE = "tollgate"
-- The most text of a usage object that is kept.
local MAX_USAGE = 8192
-- More digits than this are not a count of tokens.
local MAX_DIGITS = 15

-- A scanner follows a JSON text piece by piece and keeps the value of the
-- top-level member "usage", wherever it stands. It sees the structure only:
-- what looks like a usage inside of a string, or deeper, is none.
local function scanner()
  local depth, in_string, escaped = 0, false, false
  local key, key_parts = nil, nil -- of the top level: the last one, and the one being read
  local want_key = false          -- a string that starts now is a key of the top level
  local value, value_size = nil, 0 -- pieces of the usage object while it is read
  local s = {}

  local function keep(text)
    if value == nil then return end
    value_size = value_size + #text
    if value_size > MAX_USAGE then value = nil return end
    value[#value + 1] = text
  end

  function s.feed(text)
    local at, kept = 1, 1
    while true do
      if in_string then
        if escaped then
          if at > #text then break end
          at, escaped = at + 1, false
        end
        local stop = text:find('["\\]', at)
        if key_parts then
          if (stop or #text + 1) - at > 16 or #key_parts == 16 then
            key_parts = nil -- too long for the one that is looked for
          else
            key_parts[#key_parts + 1] = text:sub(at, (stop or 0) - 1)
          end
        end
        if stop == nil then break end
        at = stop + 1
        if text:byte(stop) == 92 then
          escaped, key_parts = true, nil
        else
          in_string = false
          if key_parts then key, key_parts = table.concat(key_parts), nil end
        end
      else
        local stop = text:find('["{}%[%],]', at)
        if stop == nil then break end
        local c = text:byte(stop)
        at = stop + 1
        if c == 34 then
          in_string = true
          if want_key then key_parts, want_key = {}, false end
        elseif c == 123 or c == 91 then -- { [
          depth = depth + 1
          if depth == 1 then
            want_key = c == 123
          elseif depth == 2 and c == 123 and key == "usage" then
            value, value_size, kept, s.usage = {}, 0, stop, nil
          end
        elseif c == 125 or c == 93 then -- } ]
          depth = depth - 1
          if depth == 1 and value then
            keep(text:sub(kept, stop))
            s.usage, value = value and table.concat(value), nil
          end
        elseif depth == 1 then -- a comma
          want_key, key = true, nil
        end
      end
    end
    if value then keep(text:sub(kept)) end
  end
  return s
end

-- number finds a member's non-negative integer in the text of an object.
local function number(text, name)
  local digits, after = text:match('"' .. name .. '"%s*:%s*(%d+)(.?)')
  if digits == nil or #digits > MAX_DIGITS or after:find("[%.eE]") then return nil end
  return tonumber(digits)
end

-- detail finds a member of an object in the text of an object.
local function detail(text, objects, name)
  for _, object in ipairs(objects) do
    local inner = text:match('"' .. object .. '"%s*:%s*(%b{})')
    local n = inner and number(inner, name)
    if n then return n end
  end
  return 0
end

-- tokens reads a usage object of any of the APIs. It returns nil where that
-- states no tokens.
local function tokens(text)
  local flat = text:sub(2):gsub("%b{}", "")
  local input = number(flat, "prompt_tokens") or number(flat, "input_tokens")
  local output = number(flat, "completion_tokens") or number(flat, "output_tokens")
  if input == nil and output == nil then
    input = number(flat, "total_tokens")
    if input == nil then return nil end
  end
  local inputs = { "prompt_tokens_details", "input_tokens_details", "input_token_details" }
  local outputs = { "completion_tokens_details", "output_tokens_details", "output_token_details" }
  local u = {
    ["in"] = input or 0,
    out = output or 0,
    cached = detail(text, inputs, "cached_tokens"),
    created = 0,
    reasoning = detail(text, outputs, "reasoning_tokens"),
  }
  -- Anthropic's input_tokens are those beside the cache.
  local read = number(flat, "cache_read_input_tokens")
  local created = number(flat, "cache_creation_input_tokens")
  if read or created then
    u.cached, u.created = read or 0, created or 0
    u["in"] = u["in"] + u.cached + u.created
  end
  return u
end

-- published reads what the ai_protocol_manager filter found in an event stream.
local function published(h)
  local t = h:streamInfo():dynamicTypedMetadata("envoy.ai.token_usage")
  -- 1 is COMPLETE. What it found before it lost its way may be out of date.
  if t == nil or t.extraction_status ~= 1 then return nil end
  if t.input_tokens == nil and t.output_tokens == nil then return nil end
  local function count(v)
    if type(v) == "table" then v = v.value end
    return tonumber(v) or 0
  end
  local inputs, outputs = t.input_token_details or {}, t.output_token_details or {}
  return {
    ["in"] = count(t.input_tokens),
    out = count(t.output_tokens),
    cached = count(inputs.cached_tokens),
    created = count(inputs.cache_creation_tokens),
    reasoning = count(outputs.reasoning_tokens),
  }
end

function envoy_on_response(h)
  local check = h:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  if check == nil or check.adm == nil then return end

  -- What h hands out is not valid after the next piece of the body has come:
  -- it is fetched anew each time.
  local function put(name, value) h:streamInfo():dynamicMetadata():set(NAMESPACE, name, value) end

  local kind = (h:headers():get("content-type") or ""):lower()
  local stream = kind:find("text/event-stream", 1, true) ~= nil
  local plain = (h:headers():get("content-encoding") or "identity"):lower() == "identity"
  local json = plain and not stream and kind:find("json", 1, true) ~= nil and scanner() or nil

  local events, bytes = 0, 0
  -- The end of what was read: long enough to find a line's start, or the
  -- stream's last line, across pieces.
  local last = "\n"
  for chunk in h:bodyChunks() do
    local n = chunk:length()
    bytes = bytes + n
    if n > 0 and (stream or json) then
      local text = chunk:getBytes(0, n)
      if json then
        json.feed(text)
      else
        local _, more = (last:sub(-5) .. text):gsub("[\r\n]data:", "")
        events = events + more
        last = (last .. text):sub(-32)
      end
    end
    put("events", string.format("%d", events))
    put("bytes", string.format("%d", bytes))
  end

  if last:find("[\r\n]data: ?%[DONE%]%s*$") then put("events", string.format("%d", events - 1)) end
  put("complete", "1")

  local usage
  if json then
    usage = json.usage and tokens(json.usage)
  else
    usage = published(h)
  end
  if usage == nil then return end
  put("reported", "1")
  for name, n in pairs(usage) do put(name, string.format("%.0f", n)) end
end
