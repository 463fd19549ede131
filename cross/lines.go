package main

import (
	"cmp"
	"context"
	"debug/elf"
	"debug/gosym"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lineTable finds lines of a binary by how a trace prints the names of functions.
type lineTable struct {
	table *gosym.Table
	named map[string][]*gosym.Func // several, where a function is compiled for several types
}

// lines links the target once more, by Go's own linker, and reads which line each instruction is of.
// The instructions are those of the release.
func (r Release) lines(ctx context.Context, t Target, scratch string) (l lineTable, err error) {
	if t.Profile != Router {
		return l, fmt.Errorf("%s: traces of the profile %s have lines", t.Name, t.Profile)
	}
	r.Linker = ""
	path := filepath.Join(scratch, "ztm-lines")
	if err := r.build(ctx, t, path); err != nil {
		return l, err
	}
	defer os.Remove(path)
	f, err := elf.Open(path)
	if err != nil {
		return l, err
	}
	defer f.Close()
	table, text := f.Section(".gopclntab"), f.Section(".text")
	if table == nil || text == nil {
		return l, fmt.Errorf("%s: the binary has no table of lines", t.Name)
	}
	data, err := table.Data()
	if err != nil {
		return l, err
	}
	if l.table, err = gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr)); err != nil {
		return l, err
	}
	l.named = map[string][]*gosym.Func{}
	for i := range l.table.Funcs {
		f := &l.table.Funcs[i]
		l.named[printed(f.Name)] = append(l.named[printed(f.Name)], f)
	}
	return l, nil
}

// printed is a function's name as a trace has it: without the types that it was compiled for.
func printed(name string) string {
	if name == "runtime.gopanic" {
		return "panic"
	}
	i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if i < 0 || j < i {
		return name
	}
	return name[:i] + "[...]" + name[j+1:]
}

// at returns the line of the instruction that many bytes after the beginning of the function, or
// lines, where several functions have the name; empty if there is none.
func (l lineTable) at(function string, offset uint64) string {
	var all []string
	for _, f := range l.named[function] {
		if f.Entry+offset >= f.End {
			continue
		}
		file, line, _ := l.table.PCToLine(f.Entry + offset)
		if at := fmt.Sprintf("%s:%d", file, line); line > 0 && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return strings.Join(all, " or ")
}

// A frame of a trace has two lines. What stands before them, as in a log, is kept.
//
//	main.run(...)
//		?:0 +0x1a4
//	created by main.main in goroutine 1
//		?:0 +0x5c
var (
	frameName  = regexp.MustCompile(`(?:created by (\S+)( in goroutine \d+)?|(\S+)\(.*\))$`)
	framePlace = regexp.MustCompile(`\?:0(?: \+0x([0-9a-f]+))?`)
)

// write copies a trace with the lines that it lacks. A function that was copied into its caller has
// no offset of its own: the innermost of these gets the line, and the others stay as they are.
func (l lineTable) write(w io.Writer, trace string) error {
	lines := strings.Split(trace, "\n")
	trap := false   // the next frame is where a signal came, and not where a call returns to
	innermost := -1 // the place of the first function that was copied, if there is one
	for i, line := range lines {
		trap = trap || strings.Contains(line, "[signal ")
		place := framePlace.FindStringSubmatchIndex(line)
		if place == nil || i == 0 {
			continue
		}
		name := frameName.FindStringSubmatch(lines[i-1])
		if name == nil {
			continue
		}
		if strings.HasSuffix(lines[i-1], "(...)") {
			if innermost < 0 {
				innermost = i
			}
			continue
		}
		offset := uint64(0)
		if place[2] >= 0 {
			offset, _ = strconv.ParseUint(line[place[2]:place[3]], 16, 64) // it is hexadecimal
		}
		if offset > 0 && !trap {
			offset-- // of the call
		}
		if at := l.at(cmp.Or(name[1], name[3]), offset); at != "" {
			n := i
			if innermost >= 0 {
				n = innermost
			}
			lines[n] = strings.Replace(lines[n], "?:0", at, 1)
		}
		trap, innermost = false, -1
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}
