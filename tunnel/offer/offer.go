// Package offer is how offers of endpoint records are read.
package offer

import (
	"slices"
	"strings"
)

// All is the last part of an offer that stands for every name in its place: who offers
// "tunnel/tcp/*" has more names than a record holds, and says of each whether it has it when asked.
const All = "*"

// Has reports whether a list of offers has a name or, if not, whether it has an offer that
// stands for all names beside it.
func Has(offers []string, name string) (named, perhaps bool) {
	if slices.Contains(offers, name) {
		return true, false
	}
	i := strings.LastIndexByte(name, '/')
	return false, i >= 0 && slices.Contains(offers, name[:i+1]+All)
}
