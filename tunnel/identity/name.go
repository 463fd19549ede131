package identity

import "strings"

// maxName is the length limit of names in bytes: that of a DNS label, so that a name can become
// one.
const maxName = 63

// CheckName checks the name of a user or endpoint: 1 to 63 characters A-Z, a-z, 0-9 and ._@-, of
// which the first is a letter or digit. Such a name needs no escaping in a URI, a path, a shell or
// a table. Errors match [ErrName].
func CheckName(s string) error {
	return checkWord("name", s, "._@-")
}

// CheckLabel checks a label that is to be set: as [CheckName], but for :/=+ which it may hold too,
// as in "env:prod" and "rack=a/3". Errors match [ErrName].
func CheckLabel(s string) error { return checkWord("label", s, "._@-:/=+") }

// checkWord checks that s starts with a letter or digit and holds nothing but letters, digits and
// the signs.
func checkWord(what, s, signs string) error {
	if s == "" {
		return failf(ErrName, "%s is empty", what)
	}
	if len(s) > maxName {
		return failf(ErrName, "%s %.80q is longer than %d characters", what, s, maxName)
	}
	for i, c := range []byte(s) {
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if alphanumeric {
			continue
		}
		if i == 0 {
			return failf(ErrName, "%s %q must start with a letter or digit", what, s)
		}
		if strings.IndexByte(signs, c) < 0 {
			return failf(ErrName, "%s %q may hold letters, digits and %s only", what, s, signs)
		}
	}
	return nil
}
