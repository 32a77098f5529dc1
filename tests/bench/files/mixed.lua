-- SPDX-License-Identifier: BSD-2-Clause
-- Tables, strings, closures, coroutines, patterns; runs under Lua 5.4 and LuaJIT.
local turns, sum = tonumber(arg[1]), 0

local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

local function tree(d) if d == 0 then return {} end return { tree(d - 1), tree(d - 1) } end
local function count(t) if t[1] then return 1 + count(t[1]) + count(t[2]) end return 1 end

for turn = 1, turns do
    sum = (sum + fib(20)) % 1000003
    sum = (sum + count(tree(11))) % 1000003
    local parts = {}
    for i = 1, 4000 do parts[#parts + 1] = string.format("%d:%s", i, ("x"):rep(i % 7)) end
    local s = table.concat(parts, ",")
    for n, x in s:gmatch("(%d+):(x*)") do sum = (sum + tonumber(n) * #x) % 1000003 end
    local co = coroutine.wrap(function() for i = 1, 5000 do coroutine.yield(i * turn) end end)
    for i = 1, 5000 do sum = (sum + co()) % 1000003 end
    local seed, v = turn, {}
    for i = 1, 4000 do seed = (seed * 16807) % 2147483647; v[i] = seed end
    table.sort(v)
    sum = (sum + v[1] + v[2000]) % 1000003
end
print(string.format("%d", sum))
