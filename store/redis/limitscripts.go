package redis

const (
	// clock gives the time of the server in microseconds and in milliseconds: the
	// clocks of the processes need not agree.
	clock = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ms = math.floor(now / 1000)
`
	// The first key holds when the bucket of tokens is full again, the second the
	// slots by the end of their leases, the third the processes that have waited
	// for a slot for long, by when they count as gone. Arguments: the slot, the
	// process, how many slots there are, the lease, the time between two tokens, how
	// many the bucket holds, how long a token may be waited for, and whether the
	// process has waited for long. The answer is whether the turn was given, and
	// how long to wait.
	takeScript = clock + `
local slots, interval = tonumber(ARGV[3]), tonumber(ARGV[5])
local starved = ARGV[8] == '1'
if slots > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ms)
    if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
        return {1, 0} -- asked again, because the answer was lost
    end
    local free = slots - redis.call('ZCARD', KEYS[2])
    if free > 0 and not starved then
        redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ms)
        free = free - redis.call('ZCARD', KEYS[3])
    end
    if free <= 0 then
        if starved then
            redis.call('ZADD', KEYS[3], ms + 600, ARGV[2])
            redis.call('PEXPIRE', KEYS[3], 1000)
        end
        return {0, 0}
    end
end
local begins = now
if interval > 0 then
    local burst, ahead = tonumber(ARGV[6]), tonumber(ARGV[7])
    local full = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
    -- More cannot have been taken, unless the clock went back or the limit changed.
    full = math.min(full, now + burst * interval + 1000000)
    begins = math.max(now, full - (burst - 1) * interval)
    if begins - now > ahead then
        return {0, begins - now - ahead}
    end
    full = full + interval
    redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
end
if slots > 0 then
    redis.call('ZADD', KEYS[2], ms + ARGV[4], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], 2 * ARGV[4])
    if starved then
        redis.call('ZREM', KEYS[3], ARGV[2])
    end
end
return {1, begins - now}
`
	// returnScript takes a turn back that was not used: a slot, and a token worth
	// the time of the second argument.
	returnScript = clock + `
redis.call('ZREM', KEYS[2], ARGV[1])
local full = redis.call('GET', KEYS[1])
if full then
    full = full - ARGV[2]
    if full > now then
        redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
    else
        redis.call('DEL', KEYS[1])
    end
end
return 1
`
	// keepScript frees slots, as many as the second argument says, and enters the
	// others for a lease, also those that were forgotten.
	keepScript = clock + `
local free = tonumber(ARGV[2])
for i = 3, #ARGV do
    if i < 3 + free then
        redis.call('ZREM', KEYS[1], ARGV[i])
    else
        redis.call('ZADD', KEYS[1], ms + ARGV[1], ARGV[i])
    end
end
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return 1
`
)
