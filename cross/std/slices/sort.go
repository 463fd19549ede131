// Package slices stands in for a part of the standard library's slices in binaries where size
// counts: for how Sort, SortFunc and SortStableFunc sort. The compiler makes a copy of that code
// for each type of element, and the original is a dozen functions, made to be fast on a million
// elements; what a router sorts is a list for a table. This is one function, stable, with as many
// comparisons, and needs a copy of the slice.
package slices

import "cmp"

// pdqsortOrdered is what Sort calls. NaNs come first.
func pdqsortOrdered[E cmp.Ordered](data []E, a, b, _ int) {
	pdqsortCmpFunc(data, a, b, 0, cmp.Compare[E])
}

// stableCmpFunc is what SortStableFunc calls.
func stableCmpFunc[E any](data []E, n int, cmp func(a, b E) int) { pdqsortCmpFunc(data, 0, n, 0, cmp) }

// pdqsortCmpFunc is what SortFunc calls. It merges runs of 1, 2, 4, ... elements, from data into a
// copy and back again.
func pdqsortCmpFunc[E any](data []E, a, b, _ int, cmp func(a, b E) int) {
	data = data[a:b]
	n := len(data)
	from, to := data, make([]E, n)
	for run := 1; run < n; run *= 2 {
		for start := 0; start < n; start += 2 * run {
			left, right := start, min(start+run, n)
			middle, end := right, min(start+2*run, n)
			for i := start; i < end; i++ {
				if left < middle && (right == end || cmp(from[left], from[right]) <= 0) {
					to[i] = from[left]
					left++
				} else {
					to[i] = from[right]
					right++
				}
			}
		}
		from, to = to, from
	}
	copy(data, from)
}
