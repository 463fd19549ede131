// Package slices stands in for a part of the standard library's slices in binaries where size
// counts: for how Sort, SortFunc and SortStableFunc sort. The compiler makes a copy of that code
// for each type of element, and the original is a dozen functions, made to be fast on a million
// elements; what a router sorts is a list for a table. This is one function for all types, which
// needs from each no more than how to compare and how to swap. It is stable, with as many
// comparisons.
package slices

import (
	"cmp"
	"reflect"
)

// pdqsortOrdered is what Sort calls. NaNs come first.
func pdqsortOrdered[E cmp.Ordered](data []E, _, n, _ int) {
	place(sorted(n, func(i, j int) int { return cmp.Compare(data[i], data[j]) }), swapper(data))
}

// swapper returns a function that swaps elements of a slice.
func swapper(data any) func(i, j int) { return reflect.Swapper(data) }

// sorted returns the numbers below n in the order that cmp has. It merges runs of 1, 2, 4, ... of
// them, from one slice into another and back again.
func sorted(n int, cmp func(i, j int) int) []int {
	from, to := make([]int, n), make([]int, n)
	for i := range from {
		from[i] = i
	}
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
	return from
}

// place puts elements in order, whose numbers order has. Whatever stands in a place goes to where the
// right one came from, which is noted in order: each swap is looked up once more at most.
func place(order []int, swap func(i, j int)) {
	for i, from := range order {
		for from < i {
			from = order[from]
		}
		swap(i, from)
		order[i] = from
	}
}
