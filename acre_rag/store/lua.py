"""The steps that a Redis server takes at once, in its own language.

Scripts about a document get its keys in one order: lock, manifest, names, state, then values. Where
a writer runs them, the first argument is the writer's token: one that was stopped for longer than
its lease finds the token gone, and changes nothing.

A server that is full refuses the first write of a script, or none: that write is therefore one
that it could refuse.
"""

_NOW = """
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

# The manifest goes before the values that it names: no document ever expires by halves.
_SETTLE = """
local function settle(last)
    local life = redis.call('HGET', KEYS[4], 'life')
    if redis.call('HEXISTS', KEYS[4], 'pinned') == 1 then life = false end
    for i = 2, last do
        if not life then redis.call('PERSIST', KEYS[i])
        elseif i == 2 then redis.call('PEXPIRE', KEYS[i], life)
        else redis.call('PEXPIRE', KEYS[i], life + 600000) end
    end
end
"""

ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

# Keys: those of the document, one value. Arguments: token, member of names, payload, milliseconds
# to live where the version is not published. The name goes first: a value without one would never
# go.
WRITE = (
    _NOW
    + _SETTLE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local before = redis.call('HGET', KEYS[3], ARGV[2]) or 0
redis.call('HSET', KEYS[3], ARGV[2], #ARGV[3])
redis.call('SET', KEYS[5], ARGV[3])
redis.call('HINCRBY', KEYS[4], 'bytes', #ARGV[3] - before)
redis.call('HSET', KEYS[4], 'used', now())
if ARGV[4] == '' then
    local left = redis.call('PTTL', KEYS[2])
    if left > -1 then redis.call('PEXPIRE', KEYS[5], left + 600000) end
    return 1
end
redis.call('PEXPIRE', KEYS[5], ARGV[4])
local left = redis.call('PTTL', KEYS[3])
if redis.call('EXISTS', KEYS[2]) == 0 or (left > -1 and left < tonumber(ARGV[4])) then
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
    redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
return 1
"""
)

# Keys: those of the document, values to keep, values to drop. Arguments: token, publication, number
# of values to keep, milliseconds to live or '', 'same' where the version is published already, then
# the members of names, in the order of their keys.
PUBLISH = (
    _NOW
    + _SETTLE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local kept = 4 + tonumber(ARGV[3])
for i = 5, kept do
    if redis.call('EXISTS', KEYS[i]) == 0 then return -1 end
end
redis.call('SET', KEYS[2], ARGV[2])
for i = 5, kept do
    local size = redis.pcall('STRLEN', KEYS[i])
    redis.call('HSET', KEYS[3], ARGV[i + 1], type(size) == 'number' and size or 0)
end
for i = kept + 1, #KEYS do
    redis.call('UNLINK', KEYS[i])
    redis.call('HDEL', KEYS[3], ARGV[i + 1])
end
local bytes = #ARGV[2]
for _, size in ipairs(redis.call('HVALS', KEYS[3])) do bytes = bytes + size end
redis.call('HSET', KEYS[4], 'bytes', bytes, 'used', now())
if ARGV[4] ~= '' then redis.call('HSET', KEYS[4], 'life', ARGV[4])
elseif ARGV[5] ~= 'same' then redis.call('HDEL', KEYS[4], 'life') end
settle(kept)
return 1
"""
)

# Keys: those of the document, all values. Arguments: 'evict' or '', when it was used last where it
# shall be evicted, milliseconds for which it is not after it was read, members of names. A server
# that is full would not give a lock away, but lets things be deleted: nobody may hold the lock, and
# the members must be all there are. Answers 0 where the document is held, -1 where other values
# have come.
DELETE = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('HLEN', KEYS[3]) ~= #KEYS - 4 then return -1 end
for i = 4, #ARGV do
    if redis.call('HEXISTS', KEYS[3], ARGV[i]) == 0 then return -1 end
end
if ARGV[1] == 'evict' then
    local state = redis.call('HMGET', KEYS[4], 'pinned', 'used', 'read')
    if state[1] or (state[2] or '0') ~= ARGV[2] then return 0 end
    if state[3] and now() - state[3] < tonumber(ARGV[3]) then return 0 end
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""
)

# Keys: those of the document. Answers 1 where its life shall be renewed, as a tenth of it is over.
TOUCH = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local time = now()
redis.call('HSET', KEYS[4], 'used', time, 'read', time)
local left = redis.call('PTTL', KEYS[2])
local life = redis.call('HGET', KEYS[4], 'life')
if left > -1 and life and left < 0.9 * life then return 1 end
return 0
"""
)

# Keys: those of the document, the values published. Arguments: the version's line, number of names,
# 'pin', 'unpin' or ''. Answers 0 where another version is published, -1 where other values have
# come.
SETTLE = (
    _SETTLE
    + """
if redis.call('GETRANGE', KEYS[2], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[2]) then return -1 end
if ARGV[3] == 'pin' then redis.call('HSET', KEYS[4], 'pinned', 1)
elseif ARGV[3] == 'unpin' then redis.call('HDEL', KEYS[4], 'pinned') end
settle(#KEYS)
return 1
"""
)

# Key: index. Arguments: members. The index is one that a listing has begun, or there is none.
INDEX = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
return 1
"""
