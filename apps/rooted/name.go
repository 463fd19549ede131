package rooted

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"ztm/apps"
)

// Limits of names, in bytes. Linux has the same ones.
const (
	MaxName = 255
	MaxPath = 4096
)

// Name is one segment of a [Path]: the name of a file in its directory. It was checked when it was
// made, so it holds no separator, and is neither "." nor ".." nor one of ours. The zero value names
// nothing, and is refused everywhere.
type Name struct{ s string }

// Path is where a file is below a root: segments with slashes between them, on all systems. It was
// checked when it was made, by [ParsePath] or [LocalPath], and is canonical: two paths of the same
// segments are ==. The zero value is the root itself.
type Path struct{ s string }

// ParsePath reads a path that a peer wrote, in the strict form that all systems can agree on: UTF-8,
// no backslash, no control character. Nothing is repaired: a path that is not canonical is refused,
// and so is one that would not be local after percent-decoding. Errors are an [ErrName].
func ParsePath(s string) (Path, error) {
	p, err := LocalPath(s)
	if err != nil {
		return p, err
	}
	if !utf8.ValidString(s) {
		return Path{}, bad(s, "it is not UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }) {
		return Path{}, bad(s, "it has a backslash or a control character")
	}
	if drive(s) {
		return Path{}, bad(s, "it begins with a drive")
	}
	// Nothing here decodes, but something else may, before or after.
	for again := s; strings.Contains(again, "%"); {
		decoded, err := url.PathUnescape(again)
		if err != nil || decoded == again {
			break
		}
		again = decoded
		if _, err := LocalPath(again); err != nil || strings.Contains(again, "\\") || drive(again) {
			return Path{}, bad(s, "it hides another path in percent signs")
		}
	}
	return p, nil
}

// drive reports whether Windows would take s for a path on a drive.
func drive(s string) bool { return len(s) > 1 && s[1] == ':' && s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z' }

// LocalPath reads a path in the form that the file systems of Unix have: any bytes but NUL. It is for
// names that were read from a disk, or that somebody types who has the rights of the account.
// Errors are an [ErrName].
func LocalPath(s string) (Path, error) {
	if s == "" {
		return Path{}, nil
	}
	if len(s) > MaxPath {
		return Path{}, fmt.Errorf("%w: a path of %d bytes, the limit is %d", ErrName, len(s), MaxPath)
	}
	for segment := range strings.SplitSeq(s, "/") {
		if err := check(segment); err != nil {
			return Path{}, err
		}
	}
	return Path{s}, nil
}

// LocalName is [LocalPath] for one segment.
func LocalName(s string) (Name, error) {
	if err := check(s); err != nil {
		return Name{}, err
	}
	return Name{s}, nil
}

// check decides what is a segment.
func check(s string) error {
	switch {
	case s == "":
		return bad(s, "an empty name")
	case s == "." || s == "..":
		return bad(s, "it leads elsewhere")
	case len(s) > MaxName:
		return fmt.Errorf("%w: a name of %d bytes, the limit is %d", ErrName, len(s), MaxName)
	case strings.ContainsAny(s, "/\x00"):
		return bad(s, "it has a slash or a zero byte")
	case reserved(s):
		return bad(s, "names that begin with .ztm belong to ztm")
	}
	return nil
}

func bad(name, why string) error { return fmt.Errorf("%w: %v: %s", ErrName, apps.Bytes(name), why) }

// reserved reports whether a name is, on some system, one of ours: case and invisible characters are
// ignored by some file systems, and Windows has short names.
func reserved(s string) bool {
	visible := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
	return prefixFold(visible, own) || prefixFold(visible, "ztm~")
}

func prefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// own begins the names that are ours.
const own = ".ztm"

// Own returns a name that is ours, and that nobody else can make: ".ztm-" with a word of the program.
// [Dir.Names] and [Dir.Walk] leave it out.
func Own(word string) Name { return Name{own + "-" + word} }

// String returns the name for people: see [apps.Bytes].
func (n Name) String() string { return apps.Bytes(n.s).String() }

// Bytes returns the name as it is. It is not for terminals.
func (n Name) Bytes() apps.Bytes { return apps.Bytes(n.s) }

// String returns the path for people: see [apps.Bytes]. The root is ".".
func (p Path) String() string {
	if p.s == "" {
		return "."
	}
	return apps.Bytes(p.s).String()
}

// Bytes returns the path as it is, with slashes; the root is "". It is not for terminals.
func (p Path) Bytes() apps.Bytes { return apps.Bytes(p.s) }

// IsRoot reports whether p is the zero value.
func (p Path) IsRoot() bool { return p.s == "" }

// Split returns the directory that p is in and its name there; for the root two zero values.
func (p Path) Split() (dir Path, name Name) {
	i := strings.LastIndexByte(p.s, '/')
	return Path{p.s[:max(i, 0)]}, Name{p.s[i+1:]}
}

// Join returns the path of a name in the directory p. It fails where that is too long.
func (p Path) Join(n Name) (Path, error) {
	if p.s == "" {
		return Path(n), nil
	}
	if len(p.s)+1+len(n.s) > MaxPath {
		return Path{}, fmt.Errorf("%w: the path is longer than %d bytes: %v", ErrName, MaxPath, n)
	}
	return Path{p.s + "/" + n.s}, nil
}

// names iterates over the segments of p.
func (p Path) names(yield func(Name) bool) {
	if p.s == "" {
		return
	}
	for s := range strings.SplitSeq(p.s, "/") {
		if !yield(Name{s}) {
			return
		}
	}
}

// Depth returns how many segments p has.
func (p Path) Depth() int {
	if p.s == "" {
		return 0
	}
	return 1 + strings.Count(p.s, "/")
}
