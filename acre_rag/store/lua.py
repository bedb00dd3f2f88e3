"""The steps that a Redis server takes at once, in its own language.

Where a writer runs them, the first key is the document's lock and the first argument the writer's
token: one that was stopped for longer than its lease finds the token gone, and changes nothing.
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

# Keys: lock, manifest, names, value. Arguments: token, member of names, payload, seconds to live
# where the version is not published. The name goes first: a value without one would never go.
WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SADD', KEYS[3], ARGV[2])
if ARGV[4] == '' then
    redis.call('SET', KEYS[4], ARGV[3])
else
    redis.call('SET', KEYS[4], ARGV[3], 'EX', ARGV[4])
    if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('EXPIRE', KEYS[3], ARGV[4]) end
end
return 1
"""

# Keys: lock, manifest, names, values to keep, values to drop. Arguments: token, publication, number
# of values to keep, members of names to drop. The manifest is the one thing that a full server
# could refuse, so it goes first.
PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local kept = 3 + tonumber(ARGV[3])
for i = 4, kept do
    if redis.call('EXISTS', KEYS[i]) == 0 then return -1 end
end
redis.call('SET', KEYS[2], ARGV[2])
for i = 3, kept do redis.call('PERSIST', KEYS[i]) end
for i = kept + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 4, #ARGV do redis.call('SREM', KEYS[3], ARGV[i]) end
return 1
"""

# Keys: lock, manifest, names, values. Arguments: members of names. A server that is full would not
# give a lock away, but lets things be deleted: nobody may hold the lock, and the members must be
# all there are. Answers 0 where the lock is held, -1 where other values have come.
DELETE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('SCARD', KEYS[3]) ~= #ARGV then return -1 end
for i = 1, #ARGV do
    if redis.call('SISMEMBER', KEYS[3], ARGV[i]) == 0 then return -1 end
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""

# Key: index. Arguments: members. The index is one that a listing has begun, or there is none.
INDEX = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
return 1
"""
