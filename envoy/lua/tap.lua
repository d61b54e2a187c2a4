-- Watches an admitted request's answer go by and writes down, in the dynamic
-- metadata "tollgate", what the settlement tells (all strings):
--
--   events    of an event stream so far that carry data, without [DONE] and
--             without chunks that have nothing but the usage
--   bytes     of the body so far, as the upstream sent it
--   complete  "1" once the end was seen
--   reported  "1" if the answer stated its token usage, "part" if it stated what went
--             in, and what came out only so far; then also
--   in, out, cached, created, reasoning: tokens; in and out include the others
--   told      what it stated of the members that the Check named in "watch", a list
--             of dotted names with spaces between: "base_resp.status_code=0 task_id=1069",
--             the values percent-encoded; "-" where it stated none after all
--
-- All but complete are kept up to date while an event stream runs, for a client
-- that hangs up leaves no later moment.
--
-- Nothing is held back or changed, unless the Check set "strip": then the chunk
-- that states the usage, and nothing else, is taken out of an event stream, for
-- this client did not ask for it. An event that arrives in pieces is held back
-- only while it may still turn out to be that chunk.

local NAMESPACE = "tollgate"
-- The most text of a usage object that is kept.
local MAX_USAGE = 8192
-- The most that is held back of an event that arrives in pieces.
local MAX_HELD = 8192
-- More than this is not a count of tokens.
local MAX_COUNT = 1e15
-- The longest value of a watched member that is told, in bytes.
local MAX_VALUE = 256
-- The most text that is kept of one: with its escapes, or with white space around.
local MAX_TEXT = 2 * MAX_VALUE
-- The longest key that every reader looks for, and more.
local LONGEST_KEY = 16
-- Members of an event's object in which a usage may stand, too: OpenAI's
-- Responses API and Anthropic's message_start.
local HOLDERS = { response = true, message = true }

-- plan makes the tree of what is watched: nodes by the parts of the dotted names.
-- Where one ends the node has the whole of it.
--
--   names    all of them, in order
--   quoted   the first parts, as they stand in JSON
--   longest  length of the longest key that is looked for
local function plan(watch)
  local p = { root = {}, names = {}, quoted = {}, longest = LONGEST_KEY }
  for name in watch:gmatch("%S+") do
    p.names[#p.names + 1] = name
    local members, node = p.root, nil
    for part in name:gmatch("[^.]+") do
      if members[part] == nil then
        members[part] = { members = {} }
        if members == p.root then p.quoted[#p.quoted + 1] = '"' .. part .. '"' end
        p.longest = math.max(p.longest, #part)
      end
      node = members[part]
      members = node.members
    end
    node.name = name
  end
  return p
end

-- plans are those that were made before. There are as many as dialects have.
local plans = {}
local function plan_of(watch)
  if watch == nil then return nil end
  plans[watch] = plans[watch] or plan(watch)
  return plans[watch]
end

-- bare is the number or word after a member's name, false where there is something
-- else. null says nothing.
local function bare(text)
  local word = text:match("^%s*:%s*([%w.+-]+)%s*$")
  if word == "null" then return nil end
  if word == "true" or word == "false" then return word end
  local number = word and #word <= MAX_VALUE and (word:find("^-?%d+%.?%d*$") or word:find("^-?%d+%.?%d*[eE][+-]?%d+$"))
  return number and word or false
end

-- unquoted is the text of a string. false: it is long, has control characters, or
-- escapes of anything but quotes, slashes and backslashes.
local function unquoted(text)
  local simple = true
  if text:find("\\", 1, true) then
    text = text:gsub("\\(.)", function(c)
      simple = simple and (c == '"' or c == "\\" or c == "/")
      return c
    end)
  end
  return simple and #text <= MAX_VALUE and not text:find("%c") and text
end

-- told_text is what the settlement is told of values by name; nil: nothing.
local function told_text(values, p)
  local parts = {}
  for _, name in ipairs(p.names) do
    if values[name] then
      parts[#parts + 1] = name .. "=" .. values[name]:gsub("[^%w._~:/-]", function(c)
        return string.format("%%%02X", c:byte())
      end)
    end
  end
  return #parts > 0 and table.concat(parts, " ") or nil
end

-- A watcher is told by a reader what it comes to, and keeps the values of a plan's
-- members.
--
--   values  by name: the text of a string, a number or a word; false: what can't be
--           told, as that of a member that stands twice, for readers differ in
--           which one they take
--   news    values has changed; whoever has looked at it sets this back
--   quoting the string that is read is a member's value
local function watcher(p)
  local w = { values = {}, news = false, quoting = false }
  local members, level = p.root, 1 -- those of the object that is read, and how deep that is
  local outer = {}                 -- those of the ones around it
  local seen, lost = {}, {}
  local leaf = nil                 -- the member whose value is read
  local after, quoted = nil, nil   -- what came after its name so far; then of its string
  local from = 1                   -- of the piece that is read: where that begins

  local function tell(value)
    if value ~= nil and not lost[leaf] then w.values[leaf.name], w.news = value, true end
    leaf, after, quoted, w.quoting = nil, nil, nil, false
  end

  local function lose(node)
    if node.name then w.values[node.name], w.news, lost[node] = false, true, true end
    for _, inner in pairs(node.members) do lose(inner) end
  end

  -- named: a member's name was read, and ends before at.
  function w.named(key, at)
    local node = members[key]
    if node == nil then return end
    if seen[node] then lose(node) end
    seen[node] = true
    if node.name then leaf, after, from = node, "", at end
  end

  -- structure: at stop, outside of strings, is a quote, bracket or comma.
  function w.structure(text, stop)
    if after == nil then return end
    after = after .. text:sub(from, stop - 1)
    local c = text:byte(stop)
    if #after > MAX_TEXT then
      tell(false)
    elseif c == 44 or c == 125 then -- , }
      tell(bare(after))
    elseif c == 34 and after:find("^%s*:%s*$") then
      after, quoted, w.quoting = nil, "", true
    else
      tell(false)
    end
  end

  -- string: this is some of the value, with its quote where it ends.
  function w.string(text, ended)
    quoted = quoted .. text
    if ended then
      tell(unquoted(quoted:sub(1, -2)))
    elseif #quoted > MAX_TEXT then
      tell(false)
    end
  end

  -- cut: the piece ends here, with a line of an event's data or not; the next one
  -- begins.
  function w.cut(text, line)
    if after then after = after .. text:sub(from) .. (line and "\n" or "") end
    if after and #after > MAX_TEXT then tell(false) end
    from = 1
  end

  -- enter: an object begins as the value of a member, whose members are read as this
  -- one's. leave: it has ended. watches: it is to be entered for the watcher's sake.
  function w.watches(key)
    local node = members[key]
    return node ~= nil and next(node.members) ~= nil
  end
  function w.enter(key)
    local node = members[key]
    outer[level], level = members, level + 1
    members = node and node.members or {}
  end
  function w.leave()
    level = level - 1
    members = outer[level]
  end
  return w
end

-- A reader follows a JSON object piece by piece and finds, without keeping the
-- rest:
--
--   usage    text of the member "usage", if that is an object
--   holder   the member of holders that the usage stood in; nil: at the top
--   choices  "empty" or "some", if the member "choices" is an array
--   begun    the object's start was seen
--   done     its end was seen
--   broken   the text is not one JSON object (seen by its structure only)
--   watcher  of the plan, if there is one
--
-- What looks like a usage, or a member, inside of a string, or deeper, is none.
local function reader(holders, p)
  local w = p and watcher(p)
  local r = { watcher = w }
  local longest = p and p.longest or LONGEST_KEY
  local depth, in_string, escaped = 0, false, false
  local level, holder = 1, nil     -- depth of the object whose members are looked at; its name, if one of holders
  local key, key_parts = nil, nil  -- of these members: the last one, and the one being read
  local want_key = false           -- a string that starts now is a key
  local value, value_size = nil, 0 -- pieces of the usage while it is read
  local value_depth = 0            -- and the depth of the object that it is in
  local choosing = false           -- just after the bracket that opens the choices

  local function keep(text)
    if value == nil then return end
    value_size = value_size + #text
    if value_size > MAX_USAGE then value = nil return end
    value[#value + 1] = text
  end

  -- pass_string reads on in a string and returns where that ends, or nil.
  local function pass_string(text, at)
    local quote = not key_parts and not escaped and text:find('"', at, true)
    if quote and (quote == at or text:byte(quote - 1) ~= 92) then
      in_string = false
      return quote
    end
    if escaped then at, escaped = at + 1, false end
    local stop = text:find('["\\]', at)
    if key_parts then
      if (stop or #text + 1) - at > longest or #key_parts > longest then
        key_parts = nil -- too long for those that are looked for
      else
        key_parts[#key_parts + 1] = text:sub(at, (stop or 0) - 1)
      end
    end
    if stop == nil then return nil end
    if text:byte(stop) == 92 then
      escaped, key_parts = true, nil
    else
      in_string = false
      if key_parts then
        key, key_parts = table.concat(key_parts), nil
        if w then w.named(key, stop + 1) end
      end
    end
    return stop
  end

  function r.feed(text)
    local at, kept = 1, 1
    if depth == 0 and not r.broken then
      at = text:find("%S")
      if at == nil then return end
      if r.done or text:byte(at) ~= 123 then
        r.broken = true
      else
        r.begun, depth, want_key, at = true, 1, true, at + 1
      end
    end
    if r.broken then return end

    while at <= #text do
      local stop
      if in_string then
        stop = pass_string(text, at)
        if w and w.quoting then w.string(text:sub(at, stop or -1), not in_string) end
        if stop == nil then break end
      else
        if choosing then
          local c = text:match("^%s*(%S)", at)
          if c then choosing, r.choices = false, c == "]" and r.choices or "some" end
        end
        stop = text:find(depth == level and '["{}%[%],]' or '["{}%[%]]', at)
        if stop == nil then break end
        if w then w.structure(text, stop) end
        local c = text:byte(stop)
        if c == 34 then
          in_string = true
          if want_key then key_parts, want_key = {}, false end
        elseif c == 44 then -- a comma
          want_key, key = true, nil
        elseif c == 123 or c == 91 then -- { [
          if depth == level then
            local holds = depth == 1 and holders and holders[key]
            if c == 123 and key == "usage" and (depth == 1 or depth == 2 and holder) then
              value, value_size, value_depth, kept = {}, 0, depth, stop
            end
            if c == 123 and (holds or w and w.watches(key)) then
              if w then w.enter(key) end
              level, want_key = level + 1, true
              if holds then holder = key end
            elseif c == 91 and depth == 1 and key == "choices" then
              choosing, r.choices = true, r.choices or "empty"
            end
          end
          depth = depth + 1
        else -- } ]
          depth = depth - 1
          if depth == 0 then
            r.done, r.broken = true, text:find("%S", stop + 1) ~= nil
            return
          end
          if value and depth == value_depth then
            keep(text:sub(kept, stop))
            r.usage, r.holder, value = value and table.concat(value), holder, nil
          end
          if depth < level then
            if w then w.leave() end
            level, want_key, key = depth, false, nil
            if level == 1 then holder = nil end
          end
        end
      end
      at = stop + 1
    end
    if value then keep(text:sub(kept)) end
    if w then w.cut(text) end
  end

  -- break_line is told of the line ends in an event's data, which stand for
  -- white space. A string can't have any.
  function r.break_line()
    if in_string then r.broken = true end
    if w then w.cut("", true) end
  end
  return r
end

-- number finds a member's count in the text of an object: a non-negative integer, in
-- any of the ways in which JSON may have it. nil: it isn't there, or null; false: it is
-- something else.
local function number(text, name)
  local _, stop = text:find(name, 1, true)
  local word = stop and text:match("^%s*:%s*([^%s,}%]]*)", stop + 1)
  if word == nil or word == "null" then return nil end
  local n = (word:find("^%d+%.?%d*$") or word:find("^%d+%.?%d*[eE][+-]?%d+$")) and tonumber(word)
  return n and n < MAX_COUNT and n == math.floor(n) and n or false
end

-- detail finds a member of one of the named objects in the text of an object.
local function detail(text, objects, name)
  for _, object in ipairs(objects) do
    local _, stop = text:find(object, 1, true)
    local inner = stop and text:match("^%s*:%s*(%b{})", stop + 1)
    local n = inner and number(inner, name)
    if n ~= nil then return n end
  end
end

local INPUTS = { '"prompt_tokens_details"', '"input_tokens_details"', '"input_token_details"' }
local OUTPUTS = { '"completion_tokens_details"', '"output_tokens_details"', '"output_token_details"' }

local COUNTS = {
  prompt = '"prompt_tokens"',
  input = '"input_tokens"',
  completion = '"completion_tokens"',
  output = '"output_tokens"',
  total = '"total_tokens"',
  read = '"cache_read_input_tokens"',
  created = '"cache_creation_input_tokens"',
}

-- statement reads a usage object of any of the APIs: what it states, by name. nil: it
-- has something that is no count in place of one, so that nothing in it is certain.
local function statement(text)
  if text:find(':%s*"') then
    -- Strings that are no names go: they might look like one, and their braces
    -- would pair up with the others.
    text = text:gsub("\\.", ""):gsub('("[^"]*")(%s*:?)', function(string, after)
      if after:sub(-1) ~= ":" or string:find("[{}]") then string = '""' end
      return string .. after
    end)
  end
  local flat, cached, reasoning = text, nil, nil
  if text:find("{", 2, true) then
    flat = text:sub(2):gsub("%b{}", "")
    cached = detail(text, INPUTS, '"cached_tokens"')
    reasoning = detail(text, OUTPUTS, '"reasoning_tokens"')
  end
  local said = { cached = cached, reasoning = reasoning }
  for member, name in pairs(COUNTS) do
    said[member] = number(flat, name)
  end
  if said.completion ~= nil then said.output = said.completion end
  for _, n in pairs(said) do
    if not n then return nil end
  end
  return said
end

-- tokens are what the settlement tells of a statement; nil where that has none.
local function tokens(s)
  if s == nil then return nil end
  local input = s.prompt or s.input
  if input == nil and s.output == nil then input = s.total end
  if input == nil and s.output == nil then return nil end
  local t = {
    ["in"] = input or 0,
    out = s.output or 0,
    cached = s.cached or s.read or 0,
    created = s.created or 0,
    reasoning = s.reasoning or 0,
  }
  -- Anthropic's input_tokens are those beside the cache.
  if s.prompt == nil then t["in"] = t["in"] + (s.read or 0) + t.created end
  return t
end

-- only_usage tells the chunk that OpenAI's stream_options.include_usage adds.
local function only_usage(r)
  return r.done and not r.broken and r.choices == "empty" and r.usage ~= nil and r.holder == nil
end

-- maybe_only_usage tells whether what is read so far may become one.
local function maybe_only_usage(r)
  return not r.broken and r.choices ~= "some" and (not r.done or only_usage(r))
end

-- usage_object finds the next member "usage" that is an object, at any depth.
-- Inside of a string its name would have a backslash before the second quote.
-- What it finds may be none; what it passes over is none.
local function usage_object(text, at)
  repeat
    at = text:find('"usage"', at, true)
    if at == nil then return math.huge end
    at = at + 7
  until text:find("^%s*:%s*{", at)
  return at
end

-- names_before reports whether any of the names stands between at and stop. found
-- has where each of them comes next, as far as that is known.
local function names_before(text, at, stop, names, found)
  for i, name in ipairs(names) do
    if (found[i] or 0) < at then found[i] = text:find(name, at, true) or math.huge end
    if found[i] < stop then return true end
  end
  return false
end

-- whole_event returns what follows an event of the usual form: one line of data,
-- an object, maybe a type before it. nil: it has another form, or goes on. A text
-- without CRs, which has_cr denies, takes a third of the time.
local function whole_event(text, at, has_cr)
  if text:byte(at) == 101 then at = text:match("^event:[^\r\n]*\r?\n()", at) or at end
  if not text:find("^data: ?{", at) then return nil end
  if has_cr then return text:match("^[^\r\n]*\r?\n\r?\n()", at) end
  local stop = text:find("\n", at, true)
  return stop and text:byte(stop + 1) == 10 and stop + 2 or nil
end

local BOM = "\239\187\191"

-- An events parser follows an event stream (WHATWG HTML, 9.2.6), whatever the
-- pieces that it comes in.
--
--   count   events so far, as told
--   usage   the tokens that were stated last
--   latest  no event came after the one that stated them
--   part    the tokens of the newest statement that has some that went in, also of one
--           that an answer begins with
--   values  of the plan's members, as the last event has it that has them; news: they
--           have changed
local function events(strip, p)
  local s = { count = 0, latest = false, values = {}, news = false }
  local bom = 0              -- bytes seen of a byte order mark at the stream's start
  local after_cr = false     -- the last byte was a CR: a line feed now ends the same line,
  local cut_lf = false       -- which was taken out
  local open = false         -- inside of an event
  local field, name = nil, "" -- the line's: "data" or "other"; nil: its name isn't whole yet
  local data = nil           -- reader of the event's data
  local words = ""           -- the start of the data, if it is no object
  local start = nil          -- what Anthropic's message_start stated
  local held = ""            -- the open event so far, if it is held back

  local function take(part, ended)
    if field == nil then
      name = name .. part
      if name:sub(1, 5) == "data:" then
        field, part = "data", name:sub(6)
      elseif #name > 4 or ended then
        field = "other"
      end
    end
    if field ~= "data" then return end
    data = data or reader(HOLDERS, p)
    data.feed(part)
    if ended then data.break_line() end
    if data.broken and not data.begun and #words < 16 then words = words .. part end
  end

  -- A statement counts as the latest until another event has passed by, for some
  -- services state a usage of nothing first. After Anthropic's last one only the
  -- stream's end follows.
  local function count()
    s.count = s.count + 1
    s.latest = s.latest and start ~= nil
  end

  -- finish ends an event, and tells whether it is the one to take out.
  local function finish()
    local d, w = data, words
    open, data, words = false, nil, ""
    if d == nil then return false end
    local only = only_usage(d)
    if not only and (d.begun or w ~= "" and not w:find("^%s*%[DONE%]%s*$")) then count() end
    if d.usage then
      local said = statement(d.usage)
      local begins = d.holder == "message"
      if begins then
        start = said
      elseif said then
        for k, n in pairs(start or {}) do said[k] = said[k] or n end
      end
      local t = tokens(said)
      if t and t["in"] > 0 then s.part = t end
      if t and not begins then s.usage, s.latest = t, true end
    end
    if d.watcher and d.watcher.news and not d.broken then
      for name, v in pairs(d.watcher.values) do s.values[name] = v or nil end
      s.news = true
    end
    return only
  end

  -- feed reads a piece of the stream. It returns what the client is to get in its
  -- place; nil: the piece itself.
  function s.feed(piece)
    local text, at = held .. piece, #held + 1
    local hold = held ~= "" and 1 or nil -- from here on it is held back
    local from, out = 1, nil             -- what was put out ends before from
    local next_usage = 0                 -- a usage starts there, or later
    local next_names = {}                -- and what is watched there
    local has_cr = text:find("\r", at, true) ~= nil
    held = ""

    if after_cr and text:byte(at) == 10 then
      at = at + 1
      if cut_lf then from, out = at, {} end
    end
    after_cr, cut_lf = false, false
    while bom < 3 and at <= #text do
      if text:byte(at) == BOM:byte(bom + 1) then
        bom, at = bom + 1, at + 1
      else
        bom = 3
      end
    end

    while at <= #text do
      local line_starts = field == nil and name == ""
      local next_event = line_starts and not open and whole_event(text, at, has_cr)
      if next_event and next_usage < at then next_usage = usage_object(text, at) end
      local told = next_event and (next_usage < next_event or p and names_before(text, at, next_event, p.quoted, next_names))
      if next_event and not told then
        count()
        at = next_event
      else
        local stop = has_cr and text:find("[\r\n]", at) or not has_cr and text:find("\n", at, true)
        if line_starts and stop ~= at then
          if text:byte(at) == 58 then
            field = "other" -- a comment; it belongs to no event
          elseif not open then
            open = true
            if strip then hold = at end
          end
        end
        local blank = line_starts and stop == at
        if not blank then take(text:sub(at, (stop or 0) - 1), stop) end
        if not stop then break end

        field, name = nil, ""
        if text:byte(stop) == 13 then
          if text:byte(stop + 1) == 10 then
            stop = stop + 1
          else
            after_cr = stop == #text
          end
        end
        if blank and open then
          if finish() and hold then
            out = out or {}
            out[#out + 1] = text:sub(from, hold - 1)
            from, cut_lf = stop + 1, after_cr
          end
          hold = nil
        end
        at = stop + 1
      end
    end

    if hold and (#text - hold >= MAX_HELD or data and not maybe_only_usage(data)) then hold = nil end
    if hold then held = text:sub(hold) end
    if #text == #piece and out == nil and hold == nil then return nil end
    out = out or {}
    out[#out + 1] = text:sub(from, hold and hold - 1)
    return table.concat(out)
  end

  -- finish is told of the stream's end. It returns what was held back and turned
  -- out to be something else.
  function s.finish()
    if open and finish() then held = "" end
    return held
  end
  return s
end

function envoy_on_response(h)
  local check = h:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  if check == nil or check.adm == nil then return end

  -- What h hands out is not valid after the next piece of the body has come:
  -- it is fetched anew each time.
  local told = {}
  local function put(name, value)
    if told[name] == value then return end
    told[name] = value
    h:streamInfo():dynamicMetadata():set(NAMESPACE, name, value)
  end
  local function report(usage, part)
    put("reported", usage and "1" or part and "part" or told.reported and "0")
    for name, n in pairs(usage or part or {}) do put(name, string.format("%.0f", n)) end
  end

  local watched = plan_of(check.watch)
  -- tell says what is known of the watched members, or that they are not what they
  -- seemed.
  local function tell(of, broken)
    if not of.news and not broken then return end
    of.news = false
    put("told", not broken and told_text(of.values, watched) or told.told and "-")
  end

  local headers = h:headers()
  local kind = (headers:get("content-type") or ""):lower()
  local stream, json
  if (headers:get("content-encoding") or "identity"):lower() == "identity" then
    if kind:find("text/event-stream", 1, true) then
      stream = events(check.strip, watched)
      if check.strip then headers:remove("content-length") end
    elseif kind:find("json", 1, true) then
      json = reader(nil, watched)
    end
  end

  local bytes, last = 0, nil
  for chunk in h:bodyChunks() do
    last = chunk
    local n = chunk:length()
    bytes = bytes + n
    if n > 0 and json then
      json.feed(chunk:getBytes(0, n))
      if watched then tell(json.watcher, json.broken) end
    elseif n > 0 and stream then
      local text = stream.feed(chunk:getBytes(0, n))
      if text then chunk:setBytes(text) end
      put("events", string.format("%d", stream.count))
      report(stream.latest and stream.usage, stream.part)
      if watched then tell(stream) end
    end
    put("bytes", string.format("%d", bytes))
  end

  if stream then
    local rest = stream.finish()
    -- The last piece is still here, unless there are trailers: they come after it.
    if rest ~= "" and h:trailers() == nil then
      last:setBytes(last:getBytes(0, last:length()) .. rest)
    end
    put("events", string.format("%d", stream.count))
    report(stream.usage, stream.part)
    if watched then tell(stream) end
  elseif json and json.usage then
    report(tokens(statement(json.usage)))
  end
  put("complete", "1")
end
