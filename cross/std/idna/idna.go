// Package idna stands in for the standard library's copy of golang.org/x/net/idna in binaries where
// size counts: net/http uses it for the names of hosts that are not in ASCII, and it has tables of
// all characters. Such a name is an error there that says how to write it. Browsers and other
// clients do so by themselves before they ask a proxy.
//
// It is our own, and has only what net/http's source mentions.
package idna

import "fmt"

// Profile is a set of rules for names.
type Profile struct{}

// Lookup is for names that are looked up.
var Lookup = &Profile{}

// ToASCII returns s if it is in ASCII.
func (*Profile) ToASCII(s string) (string, error) { return ToASCII(s) }

// ToASCII returns s if it is in ASCII.
func ToASCII(s string) (string, error) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return "", fmt.Errorf("host %q: this build of ztm takes names in ASCII alone: write it as xn--...", s)
		}
	}
	return s, nil
}
