-- SPDX-License-Identifier: BSD-2-Clause
-- Number loops that a tracing compiler turns into machine code.
local n, sum = tonumber(arg[1]), 0
for turn = 1, n do
    local sieve, primes = {}, 0
    for i = 2, 20000 do sieve[i] = true end
    for i = 2, 20000 do
        if sieve[i] then
            primes = primes + 1
            for k = i * i, 20000, i do sieve[k] = false end
        end
    end
    local a = 0.5
    for i = 1, 200000 do a = a * 0.999 + (i % 7) * 0.01 end
    local x, seed = 0, turn
    for i = 1, 50000 do
        seed = (seed * 16807) % 2147483647
        if seed % 3 == 0 then x = x + 1 elseif seed % 5 == 1 then x = x - 2 end
    end
    sum = (sum + primes + x + math.floor(a * 1000)) % 1000003
end
print(string.format("%d", sum))
