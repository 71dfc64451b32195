-- The first of some ids in their order, at most so many.
local function first(ids, most)
  table.sort(ids)
  local chosen = {}
  for i = 1, math.min(#ids, most) do
    chosen[i] = ids[i]
  end
  return chosen
end
