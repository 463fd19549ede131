package rooted

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// representable returns why a name cannot be written on a system: an [ErrNotHere], or nil. A file
// system may have fewer names than its system, and says so itself.
func representable(goos string, n Name) error {
	switch {
	case n.s == "":
		return fmt.Errorf("%w: an empty name", ErrName)
	case goos == "windows":
		return windowsName(n)
	case goos == "darwin" && !utf8.ValidString(n.s):
		return fmt.Errorf("%w: %v is not UTF-8", ErrNotHere, n)
	}
	return nil
}

func windowsName(n Name) error {
	switch last := n.s[len(n.s)-1]; {
	case !utf8.ValidString(n.s):
		return fmt.Errorf("%w: %v is not UTF-8", ErrNotHere, n)
	case strings.ContainsFunc(n.s, func(r rune) bool { return r < ' ' || strings.ContainsRune(`<>:"|?*\`, r) }):
		return fmt.Errorf("%w: %v has a character that Windows does not allow", ErrNotHere, n)
	case last == '.' || last == ' ':
		return fmt.Errorf("%w: %v ends with a dot or a space", ErrNotHere, n)
	case device(n.s):
		return fmt.Errorf("%w: %v is a device of Windows", ErrNotHere, n)
	}
	return nil
}

// device reports whether Windows takes a name for a device, whatever its ending.
func device(s string) bool {
	base, _, _ := strings.Cut(s, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	port, ok := strings.CutPrefix(base, "COM")
	if !ok {
		port, ok = strings.CutPrefix(base, "LPT")
	}
	return ok && strings.Contains("123456789¹²³", port) && utf8.RuneCountInString(port) == 1
}
