package identity

// maxName is the length limit of names in bytes: that of a DNS label, so that a name can become one.
const maxName = 63

// CheckName checks the name of a user or endpoint: 1 to 63 characters A-Z, a-z, 0-9 and ._@-, of which the first is a
// letter or digit. Such a name needs no escaping in a URI, a path, a shell or a table. Errors match [ErrName].
func CheckName(s string) error {
	if s == "" {
		return failf(ErrName, "name is empty")
	}
	if len(s) > maxName {
		return failf(ErrName, "name is longer than %d characters", maxName)
	}
	for i, c := range []byte(s) {
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if alphanumeric {
			continue
		}
		if i == 0 {
			return failf(ErrName, "name %q must start with a letter or digit", s)
		}
		if c != '.' && c != '_' && c != '@' && c != '-' {
			return failf(ErrName, "name %q may hold letters, digits and ._@- only", s)
		}
	}
	return nil
}
