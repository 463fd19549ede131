package mirror

import (
	"fmt"
	"strings"
)

// Patterns says which files of a mirror are left out. The last pattern that matches a path decides;
// one that begins with "!" brings the path back. The zero value leaves nothing out.
//
//   - any characters but a slash
//     ?      one of them
//     **     any directories, none among them
//     a/b    from the root of the mirror, as does /a; a pattern without a slash matches in each directory
//     a/     a directory alone
//
// Where a directory is left out, so is all below it.
type Patterns []string

// Leaving returns the patterns that leave out all but what is included, and of that what is excluded.
// Nothing that is included is all. A directory is included with all that is below it.
func Leaving(include, exclude Patterns) Patterns {
	if len(include) == 0 {
		return exclude
	}
	all := Patterns{"*", "!*/"} // what is included may be in any directory
	for _, p := range include {
		dir := strings.TrimSuffix(p, "/")
		if !strings.Contains(dir, "/") {
			dir = "**/" + dir
		}
		all = append(all, "!"+p, "!"+dir+"/**")
	}
	return append(all, exclude...)
}

// Limits of patterns: matching takes time.
const (
	maxPatterns = 256
	maxPattern  = 1024 // bytes
)

// Check returns what is wrong with patterns.
func (ps Patterns) Check() error {
	if len(ps) > maxPatterns {
		return fmt.Errorf("more than %d patterns", maxPatterns)
	}
	for _, p := range ps {
		if body := strings.TrimPrefix(p, "!"); body == "" || len(body) > maxPattern || strings.Contains(body, "//") || body == "/" || strings.Contains(body, "***") {
			return fmt.Errorf("the pattern %.50q is empty, longer than %d bytes, or has // or *** in it", p, maxPattern)
		}
	}
	return nil
}

// Leaves reports whether a path is left out. It asks for each directory of the path first.
func (ps Patterns) Leaves(path string, isDir bool) bool {
	if len(ps) == 0 {
		return false
	}
	for i := 0; i < len(path); i++ {
		if path[i] == '/' && ps.match(path[:i], true) {
			return true
		}
	}
	return ps.match(path, isDir)
}

func (ps Patterns) match(path string, isDir bool) (out bool) {
	for _, p := range ps {
		body, back := strings.CutPrefix(p, "!")
		if one(body, path, isDir) {
			out = !back
		}
	}
	return out
}

// one matches one pattern without its "!".
func one(p, path string, isDir bool) bool {
	p, dirOnly := strings.CutSuffix(p, "/")
	if dirOnly && !isDir {
		return false
	}
	p, anchored := strings.CutPrefix(p, "/")
	if !anchored && !strings.Contains(p, "/") {
		p = "**/" + p
	}
	return segments(strings.Split(p, "/"), strings.Split(path, "/"))
}

// segments matches a path by dynamic programming over its segments: hostile patterns cost no more
// than others.
func segments(p, path []string) bool {
	ok := make([]bool, len(path)+1) // whether the patterns so far match the first i segments
	ok[0] = true
	for _, seg := range p {
		next := make([]bool, len(path)+1)
		if seg == "**" {
			for i, any := 0, false; i <= len(path); i++ {
				any = any || ok[i]
				next[i] = any
			}
		} else {
			for i := range path {
				next[i+1] = ok[i] && glob(seg, path[i])
			}
		}
		ok = next
	}
	return ok[len(path)]
}

// glob matches one segment: "*" and "?". It goes back to the last star alone.
func glob(p, s string) bool {
	star, from := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
			for p[i-1] == '?' && j < len(s) && s[j]&0xc0 == 0x80 { // "?" is a character, not a byte
				j++
			}
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "*") == ""
}
