-- Wireshark dissector for skiff, classic and extended (docs/PROTOCOL.md).
--
-- Use:     wireshark -X lua_script:skiff.lua capture.pcap
-- Install: copy it to the folder "Personal Lua Plugins" (Help > About Wireshark > Folders).
--
-- Each direction of a connection is parsed once, in the order of the capture (the first pass). What is found is kept as
-- a list of items for each call of the dissector, and shown from there whenever Wireshark dissects a frame again.
-- Lengths, commands, replies and trailers are reassembled. File content is not: it is counted and checksummed as it
-- passes, so a message of gigabytes costs no memory.

local skiff = Proto("skiff", "Skiff File Transfer")

local f = skiff.fields
f.length = ProtoField.string("skiff.length", "Length")
f.command = ProtoField.string("skiff.command", "Command")
f.verb = ProtoField.string("skiff.verb", "Verb")
f.name = ProtoField.string("skiff.name", "Name")
f.reply = ProtoField.string("skiff.reply", "Reply")
f.code = ProtoField.string("skiff.code", "Error code")
f.port = ProtoField.uint16("skiff.port", "Data port", base.DEC)
f.data = ProtoField.bytes("skiff.data", "Data")
f.data_total = ProtoField.string("skiff.data.total", "Bytes so far")
f.trailer = ProtoField.string("skiff.trailer", "Trailer")
f.crc_status = ProtoField.string("skiff.crc.status", "Checksum")
f.record = ProtoField.bytes("skiff.record", "Sealed record")
f.request_in = ProtoField.framenum("skiff.request_in", "Command in", base.NONE, frametype.REQUEST)
f.response_in = ProtoField.framenum("skiff.response_in", "Reply in", base.NONE, frametype.RESPONSE)
f.time = ProtoField.double("skiff.time", "Reply time in seconds")
f.data_stream = ProtoField.uint32("skiff.data_stream", "Data connection (tcp.stream)", base.DEC)
f.control_stream = ProtoField.uint32("skiff.control_stream", "Control connection (tcp.stream)", base.DEC)

local e = {
    refused = ProtoExpert.new("skiff.refused", "The server refused", expert.group.RESPONSE_CODE, expert.severity.NOTE),
    broken = ProtoExpert.new("skiff.broken", "Protocol violation", expert.group.PROTOCOL, expert.severity.WARN),
    crc = ProtoExpert.new("skiff.crc.bad", "The checksum is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
    abort = ProtoExpert.new("skiff.abort", "Aborted by the sender", expert.group.SEQUENCE, expert.severity.NOTE),
}
skiff.experts = { e.refused, e.broken, e.crc, e.abort }

skiff.prefs.heuristic = Pref.bool("Recognize skiff on any TCP port", true,
    "Look at the first bytes of each TCP connection that no other dissector takes")

local tcp_stream = Field.new("tcp.stream")

local COMMAND_MAX = 65536
local TRAILER_MAX = 512
-- A reply to `ls` may be longer, and is then counted like file content.
local REPLY_MAX = 262144

-- CRC-32C. Lua 5.2 has bit32, later versions have operators that 5.2 can't parse.

local band, bxor, rshift
if bit32 then
    band, bxor, rshift = bit32.band, bit32.bxor, bit32.rshift
else
    local make = load([[
        return function(a, b) return a & b end, function(a, b) return a ~ b end, function(a, b) return a >> b end
    ]])
    band, bxor, rshift = make()
end

local crc_table = {}
for byte = 0, 255 do
    local value = byte
    for _ = 1, 8 do
        local odd = value % 2 == 1
        value = rshift(value, 1)
        if odd then
            value = bxor(value, 0x82F63B78)
        end
    end
    crc_table[byte] = value
end

local function crc32c(text, crc)
    crc = bxor(crc, 0xFFFFFFFF)
    local byte = string.byte
    for at = 1, #text do
        crc = bxor(rshift(crc, 8), crc_table[band(bxor(crc, byte(text, at)), 0xFF)])
    end
    return bxor(crc, 0xFFFFFFFF)
end

-- Text

-- What can be shown: controls and bytes that are not UTF-8 are escaped.
local function printable(text)
    local out, at = {}, 1
    while at <= #text do
        local byte = text:byte(at)
        local length = byte < 0x80 and 1 or byte >= 0xC2 and byte < 0xE0 and 2 or byte >= 0xE0 and byte < 0xF0 and 3
            or byte >= 0xF0 and byte < 0xF5 and 4 or 0
        local char = text:sub(at, at + length - 1)
        if byte == 10 then
            out[#out + 1] = "\\n"
        elseif byte < 0x20 or byte == 0x7F or length == 0 or #char < length
            or (length > 1 and not char:sub(2):match("^[\x80-\xBF]+$"))
            or (byte == 0xC2 and char:byte(2) < 0xA0)
            or (byte == 0xE0 and char:byte(2) < 0xA0) or (byte == 0xED and char:byte(2) > 0x9F)
            or (byte == 0xF0 and char:byte(2) < 0x90) or (byte == 0xF4 and char:byte(2) > 0x8F)
            -- Bidirectional overrides, U+200B to U+200F, U+2028 to U+202E, U+2060 to U+206F.
            or char:match("^\xE2\x80[\x8B-\x8F\xA8-\xAE]$") or char:match("^\xE2\x81[\xA0-\xAF]$") then
            out[#out + 1] = string.format("\\x%02x", byte)
            length = 1
        else
            out[#out + 1] = char
        end
        at = at + length
    end
    return table.concat(out)
end

local function shortened(text)
    text = printable(text)
    return #text > 120 and text:sub(1, 117):gsub("[\x80-\xBF\xC2-\xF4]+$", "") .. "..." or text
end

-- Characters of a text that comes in pieces, as long as nobody needs to know whether it is UTF-8.
local function characters(text)
    local _, continuations = text:gsub("[\x80-\xBF]", "")
    return #text - continuations
end

local function bytes(count)
    return string.format(count == 1 and "%.0f byte" or "%.0f bytes", count)
end

local function milliseconds(seconds)
    return string.format("%.3f ms", seconds * 1000)
end

-- Commands

-- The words before NAME in an extended command.
local VERBS = {
    ping = 0, list = 0, tree = 0, stat = 0, read = 2, resume = 1, write = 3, sum = 2, remove = 0, rename = 0, copy = 0,
    mkdir = 0, rmdir = 0, space = 0, secure = 0,
}

-- Verb and name of a command; `nil` if the verb is none.
local function parse_command(text)
    local verb, rest = text:match("^(%l+) ?(.*)$")
    if verb and VERBS[verb] and (text == verb or text:sub(#verb + 1, #verb + 1) == " ") then
        for _ = 1, VERBS[verb] do
            rest = rest:match("^[^ ]* (.*)$") or ""
        end
        return verb, rest
    end
    -- White space around and between the words of a classic command is free, and so is the case of its verb.
    local word, name = text:match("^%s*(%a+)%s*(.-)%s*$")
    word = word and word:lower()
    if word == "get" or word == "put" or word == "ls" or word == "quit" then
        return word, name
    end
    return nil
end

local function looks_like_command(text)
    return (parse_command(text)) ~= nil
end

local function looks_like_reply(text)
    return text == "ok" or text == "-1" or text:match("^ok [%d%-]") ~= nil or text:match("^error %l[%l%-]* ?") ~= nil
        or text:match("^skiff/%d") ~= nil or (#text <= 5 and text:match("^[1-9]%d*$") ~= nil)
end

-- State: connections by tcp.stream, data ports that were announced, items of each call.

local connections, ports, calls

local function reset()
    connections, ports, calls = {}, {}, {}
end
skiff.init = reset
reset()

local function endpoint(address, port)
    return tostring(address) .. " " .. tostring(port)
end

local function new_direction()
    return { want = "message", left = 0, total = 0, crc = 0 }
end

local function new_connection(stream)
    return {
        stream = stream, client = nil, queue = {}, first = 1, last = 0, staged = {},
        up = new_direction(), down = new_direction(),
    }
end

-- Items: what is shown of one message, or of a part of one.

local Call = {}
Call.__index = Call

function Call:item(offset, length, label)
    local item = { offset = offset, length = length, label = label, parts = {} }
    self.items[#self.items + 1] = item
    return item
end

function Call:info(text)
    self.infos[#self.infos + 1] = text
end

local function add(item, field, offset, length, value)
    item.parts[#item.parts + 1] = { field = field, offset = offset, length = length, value = value }
end

local function complain(item, what, text)
    item.experts = item.experts or {}
    item.experts[#item.experts + 1] = { what, text }
end

-- The client's side

local function on_command(call, connection, item, text)
    local direction = connection.up
    if #text == 0 then
        item.label = "Keep-alive"
        call:info("keep-alive")
        return
    end
    local verb, name = parse_command(text)
    item.label = "Command: " .. shortened(text)
    call:info(shortened(text))
    add(item, f.command, item.offset + 10, #text, printable(text))
    if verb then
        add(item, f.verb, item.offset + 10, #verb, verb)
        if #name > 0 then
            add(item, f.name, item.offset + 10, #text, printable(name))
        end
    else
        complain(item, e.broken, "Unknown command")
    end
    if verb == "quit" then
        return
    end
    if verb == "secure" then
        -- Of pattern, client and handshake: the client.
        name = name:match("^%S+ (%S+)") or name
    end
    local command = {
        verb = verb, name = name or "", frame = call.frame, time = call.time,
    }
    command.title = verb and shortened(name ~= "" and verb .. " " .. name or verb) or "unknown command"
    item.command = command
    connection.last = connection.last + 1
    connection.queue[connection.last] = command
    if verb == "secure" then
        connection.sealed = true
    elseif text == "write" or text:sub(1, 6) == "write " then
        direction.want, direction.total, direction.command = "body", 0, command
        local offset, size = text:match("^write (%d+) (%d+) ")
        command.offset = tonumber(offset) or 0
        command.size = size and tonumber(size) - command.offset
        -- The trailer covers the staged bytes too: the reply to `resume` has their checksum.
        local staged = connection.staged[command.name]
        direction.crc = 0
        if command.offset > 0 then
            direction.crc = staged and staged.offset == command.offset and staged.crc or nil
        end
    end
end

-- The server's side

local function owed(connection)
    return connection.first <= connection.last
end

local function take_command(connection)
    if owed(connection) then
        local command = connection.queue[connection.first]
        connection.queue[connection.first] = nil
        connection.first = connection.first + 1
        return command
    end
end

local function on_reply(call, connection, item, text)
    local direction = connection.down
    local command = take_command(connection)
    local title = command and command.title or "reply"
    local verb = command and command.verb
    local said = shortened(text)
    add(item, f.reply, item.offset + 10, #text, printable(text))
    if text:match("^error") then
        local code = text:match("^error ([^ ]*)") or ""
        add(item, f.code, item.offset + 10, #text, printable(code))
        complain(item, e.refused, "The server refused: " .. said)
        if code == "bad-length" then
            complain(item, e.broken, "The client sent a malformed length")
        end
    elseif verb == "get" or verb == "put" then
        if text == "-1" then
            said = verb == "get" and "-1, no such file" or "-1, refused"
            complain(item, e.refused, "The server refused")
        elseif text:match("^%d+$") and #text <= 5 and tonumber(text) <= 65535 then
            said = "port " .. text
            add(item, f.port, item.offset + 10, #text, tonumber(text))
            command.reply_port = tonumber(text)
            command.control = connection.stream
            ports[endpoint(call.source, text)] = command
        end
    elseif verb == "ls" then
        local _, names = text:gsub("[^\n]+", "")
        said = names == 1 and "1 name" or names .. " names"
    elseif text == "ok" or text:sub(1, 3) == "ok " then
        if verb == "list" or verb == "tree" or verb == "read" then
            direction.want, direction.total, direction.crc, direction.command = "body", 0, 0, command
            command.size = verb == "read" and tonumber(text:match("^ok (%d+)") or "") or nil
        elseif verb == "secure" then
            said = "ok"
        elseif verb == "resume" then
            local offset, crc = text:match("^ok (%d+) (%x%x%x%x%x%x%x%x)$")
            if offset then
                connection.staged[command.name] = { offset = tonumber(offset), crc = tonumber(crc, 16) }
            end
        end
    elseif command then
        complain(item, e.broken, "Not a valid reply to " .. title)
    end
    if command then
        command.reply_frame = command.reply_frame or call.frame
        local took = call.time - command.time
        item.took = took
        item.request = command
        call:info(title .. ": " .. said .. " [" .. milliseconds(took) .. "]")
        item.label = "Reply to " .. title .. ": " .. said
    else
        call:info("reply: " .. said)
        item.label = "Reply: " .. said
        if not connection.middle then
            complain(item, e.broken, "Reply without a command")
        end
    end
end

-- Bodies, in both directions

local function of_size(direction)
    local size = direction.command and direction.command.size
    return size and string.format("%.0f of %s", direction.total, bytes(size)) or bytes(direction.total)
end

local function on_trailer(call, direction, item, text)
    local command = direction.command
    local title = command and command.title or "body"
    local said = shortened(text)
    add(item, f.trailer, item.offset + 10, #text, printable(text))
    local announced = text:match("^crc32c (%x%x%x%x%x%x%x%x)$")
    local verdict
    if text:match("^abort") then
        verdict = "aborted: " .. said
        complain(item, e.abort, "Aborted by the sender: the data is not the file")
    elseif text == "crc32c -" then
        verdict = "no checksum"
    elseif not announced then
        verdict = "malformed trailer"
        complain(item, e.broken, "Malformed trailer")
    elseif direction.crc == nil then
        verdict = "crc32c " .. announced .. ", not checked (part of the file is not in this capture)"
    elseif tonumber(announced, 16) == direction.crc then
        verdict = "crc32c " .. announced .. ", correct"
    else
        verdict = string.format("crc32c %s, WRONG: it is %08x", announced, direction.crc)
        complain(item, e.crc, string.format("The checksum of what was sent is %08x", direction.crc))
    end
    if command and command.size and command.size ~= direction.total and not text:match("^abort") then
        verdict = verdict .. string.format(", WRONG LENGTH: %.0f announced", command.size)
        complain(item, e.broken, "The body does not have the announced length")
    end
    add(item, f.crc_status, item.offset + 10, #text, verdict)
    item.label = string.format("Trailer of %s: %s, %s", title, bytes(direction.total), verdict)
    call:info(string.format("%s: %s, %s", title, bytes(direction.total), verdict))
    if command then
        -- The reply to a `write` is owed from now on.
        command.time = call.time
    end
    direction.want, direction.command = "message", nil
end

-- For the Info column, unless more follows in the same segment.
local function tell_progress(call, direction, want, text)
    local title = direction.command and direction.command.title or "body"
    call.data = { direction = direction, want = want, text = "data of " .. title .. ": " .. text }
end

-- File content: counted and checksummed as it passes.
local function on_data(call, direction, offset, length)
    local captured = math.max(0, math.min(length, call.captured - offset))
    if captured < length then
        direction.crc = nil
    elseif direction.crc then
        direction.crc = crc32c(call.tvb:raw(offset, length), direction.crc)
    end
    direction.total = direction.total + length
    direction.left = direction.left - length
    local title = direction.command and direction.command.title or "body"
    local item = call:item(offset, length, "Data of " .. title .. ": " .. of_size(direction))
    if captured > 0 then
        add(item, f.data, offset, captured, nil)
    end
    item.total = of_size(direction)
    tell_progress(call, direction, "body", item.total)
    return offset + length
end

-- Classic data connections: one message, its length in bytes or in characters.

local function on_classic_data(call, connection, offset)
    local command = connection.data
    local state = connection.content
    local title = command.title
    if not state.length then
        if call.length - offset < 10 then
            return offset, "more"
        end
        local digits = call:text(offset, 10)
        if not digits:match("^%d%d%d%d%d%d%d%d%d%d$") then
            local item = call:item(offset, call.length - offset, "Not a length: " .. printable(digits))
            complain(item, e.broken, "Expected ten digits")
            state.length, state.broken = 0, true
            return call.length
        end
        local item = call:item(offset, 10, "Length of " .. title .. ": " .. tonumber(digits))
        add(item, f.length, offset, 10, digits)
        item.request, item.control = command, command.control
        state.length = tonumber(digits)
        offset = offset + 10
        if offset == call.length then
            local verdict = state.length == 0 and "empty, complete" or "0 of " .. bytes(state.length)
            call:info("data of " .. title .. ": " .. verdict)
        end
    end
    if offset < call.length then
        local length = call.length - offset
        local text = call:text(offset, length)
        state.bytes = state.bytes + length
        state.characters = state.characters + characters(text)
        local verdict = string.format("%.0f of %s", state.bytes, bytes(state.length))
        if state.broken then
            verdict = "not understood"
        elseif state.bytes == state.length then
            verdict = verdict .. ", complete"
        elseif state.characters == state.length then
            verdict = string.format("%s, %.0f characters, complete", bytes(state.bytes), state.characters)
        elseif state.bytes > state.length then
            verdict = verdict .. ", neither bytes nor characters: too much"
        end
        local item = call:item(offset, length, "Data of " .. title .. ": " .. verdict)
        if state.bytes > state.length and state.characters > state.length then
            complain(item, e.broken, "More than was announced")
        end
        if #text > 0 then
            add(item, f.data, offset, #text, nil)
        end
        item.request, item.control = command, command.control
        call:info("data of " .. title .. ": " .. verdict)
    end
    return call.length
end

-- One call of the dissector, in the first pass

function Call:text(offset, length)
    length = math.max(0, math.min(length, self.captured - offset))
    return length > 0 and self.tvb:raw(offset, length) or ""
end

-- Reads messages from `offset` on. Returns where it stopped, and "more" if that message needs another segment.
local function read_messages(call, connection, from_client, offset)
    local direction = from_client and connection.up or connection.down
    while offset < call.length do
        if direction.left > 0 then
            local length = math.min(direction.left, call.length - offset)
            if direction.want == "skip" then
                direction.left = direction.left - length
                if direction.left == 0 then
                    direction.want = "message"
                end
                call:item(offset, length, "Part of a message that is too long")
                offset = offset + length
            else
                offset = on_data(call, direction, offset, length)
            end
        else
            local available = call.length - offset
            if available < 10 and call.captured >= call.length then
                return offset, "more"
            end
            local digits = call:text(offset, 10)
            if not digits:match("^%d%d%d%d%d%d%d%d%d%d$") then
                direction.lost = true
                local item = call:item(offset, available, "Not a length: " .. shortened(digits))
                complain(item, e.broken, "Expected ten digits; the rest of the segment is skipped")
                call:info("not a length")
                connection.middle = true
                return call.length
            end
            local length = tonumber(digits)
            local is_data = direction.want == "body" and not connection.sealed
            if is_data and length > 0 then
                local item = call:item(offset, 10, "Data message of " .. bytes(length))
                add(item, f.length, offset, 10, digits)
                direction.left = length
                tell_progress(call, direction, "body", of_size(direction))
                offset = offset + 10
            elseif is_data then
                add(call:item(offset, 10, "End of the data"), f.length, offset, 10, digits)
                direction.want = "trailer"
                tell_progress(call, direction, "trailer", "end")
                offset = offset + 10
            else
                local limit = direction.want == "trailer" and TRAILER_MAX or from_client and COMMAND_MAX or REPLY_MAX
                if connection.sealed then
                    limit = 65535
                end
                if length > limit then
                    local item = call:item(offset, 10, "A message of " .. bytes(length))
                    add(item, f.length, offset, 10, digits)
                    complain(item, e.broken, "Message too long")
                    call:info("message of " .. bytes(length))
                    if not from_client then
                        take_command(connection)
                    end
                    direction.want, direction.left = "skip", length
                    offset = offset + 10
                else
                    if available < 10 + length then
                        if call.captured < call.length then
                            -- The capture has only the beginnings of packets.
                            direction.lost, connection.middle = true, true
                            return call.length
                        end
                        return offset, "more"
                    end
                    local text = call:text(offset + 10, length)
                    local item = call:item(offset, 10 + length, "")
                    add(item, f.length, offset, 10, digits)
                    -- The reply to `secure` is the last message that is not sealed.
                    local is_plain = not from_client and owed(connection)
                        and (text:match("^error ") or text:match("^ok %x+$"))
                    if connection.sealed and not is_plain then
                        item.label = "Sealed record, " .. bytes(length)
                        if length > 0 then
                            add(item, f.record, offset + 10, length, nil)
                        end
                        call:info("sealed record, " .. bytes(length))
                    elseif direction.want == "trailer" then
                        on_trailer(call, direction, item, text)
                    elseif from_client then
                        on_command(call, connection, item, text)
                    else
                        on_reply(call, connection, item, text)
                    end
                    offset = offset + 10 + length
                end
            end
        end
    end
    return offset
end

-- True if a segment begins with a message that can only be a command (or a reply).
local function begins(text, looks)
    local digits = text:match("^%d%d%d%d%d%d%d%d%d%d")
    if not digits then
        return false
    end
    local length = tonumber(digits)
    if length == 0 then
        return #text > 10 and begins(text:sub(11), looks)
    end
    local payload = text:sub(11, 10 + length)
    if #payload < length then
        -- Only the beginning is here: enough if it has a verb and a space.
        return length <= 600 and #payload >= 6 and looks(payload)
    end
    return looks(payload)
end

local function parse(tvb, pinfo, stream)
    local call = setmetatable({
        tvb = tvb, frame = pinfo.number, time = pinfo.rel_ts, source = pinfo.src, items = {}, infos = {},
        captured = tvb:captured_len(), length = tvb:reported_len(),
    }, Call)
    local connection = connections[stream]
    if not connection then
        connection = new_connection(stream)
        connections[stream] = connection
        local here, there = endpoint(pinfo.src, pinfo.src_port), endpoint(pinfo.dst, pinfo.dst_port)
        local port = ports[here] and here or ports[there] and there
        if port then
            -- A port is good for one connection.
            connection.data, connection.content = ports[port], { bytes = 0, characters = 0 }
            connection.data.data_stream = stream
            ports[port] = nil
        end
    end
    local stopped, more
    if connection.data then
        stopped, more = on_classic_data(call, connection, 0)
    else
        local sender = endpoint(pinfo.src, pinfo.src_port)
        local text = call:text(0, math.min(call.length, 700))
        if not connection.client then
            local is_reply = begins(text, looks_like_reply) and not begins(text, looks_like_command)
            connection.client = is_reply and endpoint(pinfo.dst, pinfo.dst_port) or sender
            connection.middle = is_reply
        end
        local from_client = sender == connection.client
        local direction = from_client and connection.up or connection.down
        if direction.lost and begins(text, from_client and looks_like_command or looks_like_reply) then
            -- An unambiguous message: resynchronize.
            direction = new_direction()
            if from_client then
                connection.up = direction
            else
                connection.down, connection.queue, connection.first, connection.last = direction, {}, 1, 0
            end
        end
        if direction.lost then
            local item = call:item(0, call.length, "Not understood: the beginning of this message is missing")
            call:info("continuation")
        else
            stopped, more = read_messages(call, connection, from_client, 0)
        end
    end
    local data = call.data
    if data and data.direction.want == data.want then
        call:info(data.text)
    end
    return { items = call.items, info = table.concat(call.infos, " | "), stopped = stopped, more = more }
end

-- Shows what was found

local shown_frame

local function show(result, tvb, pinfo, tree)
    if result.info ~= "" then
        pinfo.cols.protocol = "Skiff"
        -- A frame may hold the end of a reassembled message and more: the second call appends.
        pinfo.cols.info = (shown_frame == pinfo.number and " | " or "") .. result.info
        pinfo.cols.info:fence()
        shown_frame = pinfo.number
    end
    local captured = tvb:captured_len()
    local function range(offset, length)
        offset = math.min(offset, captured)
        return tvb(offset, math.max(0, math.min(length, captured - offset)))
    end
    local root
    for _, item in ipairs(result.items) do
        root = root or tree:add(skiff, range(0, result.stopped or captured))
        local branch = root:add(skiff, range(item.offset, item.length), item.label)
        branch:set_text(item.label)
        for _, part in ipairs(item.parts) do
            if part.value == nil then
                branch:add(part.field, range(part.offset, part.length))
            else
                branch:add(part.field, range(part.offset, part.length), part.value)
            end
        end
        if item.total then
            branch:add(f.data_total, item.total):set_generated()
        end
        local command = item.command
        if command and command.reply_frame then
            branch:add(f.response_in, command.reply_frame):set_generated()
        end
        if command and command.data_stream then
            branch:add(f.data_stream, command.data_stream):set_generated()
        end
        if item.request then
            branch:add(f.request_in, item.request.frame):set_generated()
            if item.took then
                branch:add(f.time, item.took):set_generated()
            end
        end
        if item.control then
            branch:add(f.control_stream, item.control):set_generated()
        end
        for _, complaint in ipairs(item.experts or {}) do
            branch:add_proto_expert_info(complaint[1], complaint[2])
        end
    end
    if result.more then
        pinfo.desegment_offset = result.stopped
        pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
    end
end

function skiff.dissector(tvb, pinfo, tree)
    if tvb:reported_len() == 0 then
        return 0
    end
    local stream = tcp_stream()
    stream = stream and stream.value or 0
    -- A frame can contain the end of a reassembled message and further messages: Wireshark calls once for each.
    local key = string.format("%d %d %d %d", stream, pinfo.number, tvb:offset(), tvb:reported_len())
    local result = calls[key]
    if not result then
        result = parse(tvb, pinfo, stream)
        calls[key] = result
    end
    show(result, tvb, pinfo, tree)
    return tvb:captured_len()
end

-- Any port: recognize skiff by the first bytes, or by a data port that a reply announced.
local function heuristic(tvb, pinfo, tree)
    if not skiff.prefs.heuristic or tvb:captured_len() < 4 then
        return false
    end
    local stream = tcp_stream()
    local known = connections[stream and stream.value or 0] ~= nil
        or ports[endpoint(pinfo.src, pinfo.src_port)] ~= nil or ports[endpoint(pinfo.dst, pinfo.dst_port)] ~= nil
    if not known then
        local text = tvb:raw(0, math.min(tvb:captured_len(), 700))
        if #text < 10 + 6 and text:match("^0000%d*$") then
            -- Only a length so far: wait for the payload.
            pinfo.desegment_offset, pinfo.desegment_len = 0, DESEGMENT_ONE_MORE_SEGMENT
            return true
        end
        if not begins(text, looks_like_command) and not begins(text, looks_like_reply) then
            return false
        end
    end
    skiff.dissector(tvb, pinfo, tree)
    pinfo.conversation = skiff
    return true
end

skiff:register_heuristic("tcp", heuristic)
DissectorTable.get("tcp.port"):add_for_decode_as(skiff)
