// QR codes, as ISO/IEC 18004 has them: bytes, with the least correction, in the smallest size that
// holds them. A screen is no dirty label, and a permit is long.
//
//	text -> bytes -> codewords, in blocks with Reed-Solomon check words -> modules -> the best mask

import { h } from './dom.js'

// By version, from 1: check words of a block, and blocks.
const CHECKS = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30]
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25]
const MASKS = [(x, y) => (x + y) % 2, (x, y) => y % 2, x => x % 3, (x, y) => (x + y) % 3, (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => x * y % 2 + x * y % 3, (x, y) => (x * y % 2 + x * y % 3) % 2, (x, y) => ((x + y) % 2 + x * y % 3) % 2]

// picture is the code of a text, dark on light whatever the theme is; null if the text is too long.
export function picture(text, label) {
  const rows = code(text)
  if (!rows) return null
  const n = rows.length + 8 // a margin of 4 modules
  const path = rows.flatMap((row, y) => row.map((dark, x) => dark ? `M${x + 4} ${y + 4}h1v1h-1z` : '')).join('')
  return h('svg', { class: 'qr', viewBox: `0 0 ${n} ${n}`, width: n * 3, height: n * 3, role: 'img', 'aria-label': label, 'shape-rendering': 'crispEdges' },
    h('rect', { width: n, height: n, fill: '#fff' }), h('path', { d: path, fill: '#000' }))
}

// code returns the modules of the code, row by row: true is dark. It is null if the text is too long.
export function code(text) {
  const bytes = new TextEncoder().encode(text)
  for (let version = 1; version <= 40; version++) {
    const length = version < 10 ? 1 : 2 // bytes of the length
    const room = words(version) - CHECKS[version - 1] * BLOCKS[version - 1]
    if (bytes.length + length + 1 > room) continue // 4 bits say that bytes follow, 4 that they end
    return best(version, interleaved(version, padded(bytes, length, room)))
  }
  return null
}

// words is how many codewords a version has, with the check words.
function words(version) {
  let modules = (16 * version + 128) * version + 64
  if (version >= 2) {
    const n = Math.floor(version / 7) + 2
    modules -= (25 * n - 10) * n - 55
    if (version >= 7) modules -= 36
  }
  return Math.floor(modules / 8)
}

// padded is what is encoded: 4 bits of mode, the length, the bytes, 4 bits of end, and filling.
function padded(bytes, length, room) {
  const nibbles = [4, ...length === 2 ? [bytes.length >> 12, bytes.length >> 8 & 15] : [], bytes.length >> 4 & 15, bytes.length & 15]
  for (const b of bytes) nibbles.push(b >> 4, b & 15)
  nibbles.push(0)
  const out = []
  for (let i = 0; i < nibbles.length; i += 2) out.push(nibbles[i] << 4 | nibbles[i + 1])
  for (let fill = 0xec; out.length < room; fill ^= 0xec ^ 0x11) out.push(fill)
  return out
}

// interleaved cuts data into blocks, adds their check words, and takes a word of each in turn.
function interleaved(version, data) {
  const checks = CHECKS[version - 1], count = BLOCKS[version - 1]
  const short = Math.floor(data.length / count), longer = data.length % count
  const generator = polynomial(checks), blocks = []
  for (let i = 0, at = 0; i < count; i++) {
    const n = short + (i >= count - longer)
    blocks.push(data.slice(at, at += n))
  }
  const out = []
  for (let i = 0; i <= short; i++) for (const b of blocks) if (i < b.length) out.push(b[i])
  const rest = blocks.map(b => remainder(b, generator))
  for (let i = 0; i < checks; i++) for (const r of rest) out.push(r[i])
  return out
}

// times multiplies in the field of 256 elements, modulo x^8 + x^4 + x^3 + x^2 + 1.
function times(a, b) {
  let out = 0
  for (let i = 7; i >= 0; i--) {
    out = out << 1 ^ (out >> 7) * 0x11d
    out ^= (b >> i & 1) * a
  }
  return out
}

function polynomial(degree) {
  const out = Array(degree - 1).fill(0).concat(1)
  for (let i = 0, root = 1; i < degree; i++, root = times(root, 2)) {
    for (let j = 0; j < degree; j++) out[j] = times(out[j], root) ^ (out[j + 1] ?? 0)
  }
  return out
}

function remainder(data, generator) {
  const out = Array(generator.length).fill(0)
  for (const b of data) {
    const factor = b ^ out.shift()
    out.push(0)
    generator.forEach((g, i) => { out[i] ^= times(g, factor) })
  }
  return out
}

// best draws the code with each mask, and returns the one that is easiest to read.
function best(version, codewords) {
  let found = null, least = Infinity
  for (let mask = 0; mask < 8; mask++) {
    const { modules, fixed } = frame(version, mask)
    fill(modules, fixed, codewords, mask)
    const p = penalty(modules)
    if (p < least) [found, least] = [modules, p]
  }
  return found
}

// frame draws what is the same whatever a code says, and which mask it has.
function frame(version, mask) {
  const n = version * 4 + 17
  const modules = Array.from({ length: n }, () => Array(n).fill(false)), fixed = modules.map(r => r.slice())
  const put = (x, y, dark) => { if (x >= 0 && y >= 0 && x < n && y < n) { modules[y][x] = Boolean(dark); fixed[y][x] = true } }
  for (let i = 0; i < n; i++) { put(6, i, i % 2 === 0); put(i, 6, i % 2 === 0) }
  for (const [cx, cy] of [[3, 3], [n - 4, 3], [3, n - 4]]) square(put, cx, cy, 4, d => d !== 2 && d !== 4)
  const at = alignment(version, n)
  for (const x of at) for (const y of at) if (!(x === 6 && y === 6 || x === 6 && y === n - 7 || x === n - 7 && y === 6)) square(put, x, y, 2, d => d !== 1)
  const format = (1 << 3 | mask) << 10 | checked(1 << 3 | mask, 10, 0x537), f = format ^ 0x5412
  for (let i = 0; i < 15; i++) {
    const bit = f >> i & 1
    put(...i < 6 ? [8, i] : i < 8 ? [8, i + 1] : i === 8 ? [7, 8] : [14 - i, 8], bit)
    put(...i < 8 ? [n - 1 - i, 8] : [8, n - 15 + i], bit)
  }
  put(8, n - 8, true)
  if (version >= 7) {
    const v = version << 12 | checked(version, 12, 0x1f25)
    for (let i = 0; i < 18; i++) for (const swap of [false, true]) put(...swap ? [Math.floor(i / 3), n - 11 + i % 3] : [n - 11 + i % 3, Math.floor(i / 3)], v >> i & 1)
  }
  return { modules, fixed }
}

// square draws rings around a module: dark(d) says whether the one at distance d is dark.
function square(put, cx, cy, radius, dark) {
  for (let dx = -radius; dx <= radius; dx++) for (let dy = -radius; dy <= radius; dy++) put(cx + dx, cy + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))))
}

// alignment is where the small squares are, both across and down.
function alignment(version, n) {
  if (version === 1) return []
  const count = Math.floor(version / 7) + 2, step = Math.floor((version * 8 + count * 3 + 5) / (count * 4 - 4)) * 2
  return [6, ...Array.from({ length: count - 1 }, (_, i) => n - 7 - (count - 2 - i) * step)]
}

// checked is the remainder that detects errors in a few bits.
function checked(bits, degree, generator) {
  let out = bits
  for (let i = 0; i < degree; i++) out = out << 1 ^ (out >> degree - 1) * generator
  return out
}

// fill writes codewords in columns of two, upwards and downwards in turn, from the right.
function fill(modules, fixed, codewords, mask) {
  const n = modules.length
  let i = 0
  for (let right = n - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5
    for (let step = 0; step < n; step++) {
      for (const x of [right, right - 1]) {
        const y = (right + 1 & 2) === 0 ? n - 1 - step : step
        if (fixed[y][x]) continue
        const bit = i < codewords.length * 8 && codewords[i >> 3] >> 7 - (i & 7) & 1
        i++
        modules[y][x] = Boolean(bit) !== (MASKS[mask](x, y) === 0)
      }
    }
  }
}

// penalty counts what makes a code hard to read: runs, squares, what looks like a corner, and too
// much of one colour.
function penalty(modules) {
  const n = modules.length
  let out = 0, dark = 0
  const rows = modules.map(r => r.map(d => d ? '1' : '0').join(''))
  const columns = modules.map((_, x) => rows.map(r => r[x]).join(''))
  for (const lineOf of [...rows, ...columns]) {
    for (const run of lineOf.match(/0{5,}|1{5,}/g) ?? []) out += run.length - 2
    for (const corner of ['00001011101', '10111010000']) for (let at = lineOf.indexOf(corner); at >= 0; at = lineOf.indexOf(corner, at + 1)) out += 40
  }
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < n; x++) {
      dark += modules[y][x]
      if (x && y && modules[y][x] === modules[y][x - 1] && modules[y][x] === modules[y - 1][x] && modules[y][x] === modules[y - 1][x - 1]) out += 3
    }
  }
  return out + Math.floor(Math.abs(dark * 20 - n * n * 10) / (n * n)) * 10
}
