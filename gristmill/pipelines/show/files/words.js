// Which words two texts share: pieces [text, shared] of each, or null where they are too long to compare.
const MOST_CELLS = 4e6;

function differences(first, second) {
  const a = first.split(/(\s+)/).filter(Boolean), b = second.split(/(\s+)/).filter(Boolean);
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const n = a.length - start - end, m = b.length - start - end;
  if ((n + 1) * (m + 1) > MOST_CELLS) return null;
  // The longest common subsequence of the words between what both begin and end with.
  const longest = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--)
    for (let j = m - 1; j >= 0; j--)
      longest[i][j] = a[start + i] === b[start + j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  const left = new Array(a.length).fill(true), right = new Array(b.length).fill(true);
  for (let i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && a[start + i] === b[start + j]) { i++; j++; }
    else if (j >= m || (i < n && longest[i + 1][j] >= longest[i][j + 1])) left[start + i++] = false;
    else right[start + j++] = false;
  }
  return [joined(a, left), joined(b, right)];
}

function joined(words, shared) {
  const pieces = [];
  words.forEach((word, i) => {
    const last = pieces.at(-1);
    if (last && last[1] === shared[i]) last[0] += word;
    else pieces.push([word, shared[i]]);
  });
  return pieces;
}
