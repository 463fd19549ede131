// Package rand stands in for Go 1.26's math/rand in binaries where size counts: net/http takes two
// numbers of it, for how long to wait, and it brings every generator that it ever had. The numbers
// are those of math/rand/v2, which the program has anyway.
//
// It is our own, and has only what the sources of net/http and math/big mention.
package rand

import "math/rand/v2"

// Source is where random bits come from.
type Source = rand.Source

// Rand makes random numbers.
type Rand = rand.Rand

// NewSource returns a source whose bits follow from seed. They are others than in the original,
// which promises none.
func NewSource(seed int64) Source { return rand.NewPCG(uint64(seed), 0) }

// New returns a Rand that uses bits of src.
func New(src Source) *Rand { return rand.New(src) }

// Float64 returns a number that is at least 0 and less than 1.
func Float64() float64 { return rand.Float64() }

// Intn returns a number that is at least 0 and less than n.
func Intn(n int) int { return rand.IntN(n) }
