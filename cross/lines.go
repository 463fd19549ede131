package main

import (
	"cmp"
	"context"
	"debug/dwarf"
	"debug/elf"
	"debug/gosym"
	"errors"
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
	dwarf *dwarf.Data
	named map[string][]*gosym.Func // several, where a function is compiled for several types
}

// lines links the target once more, by Go's own linker, and reads which line each instruction is of.
// The instructions are those of the release.
func (r Release) lines(ctx context.Context, t Target, scratch string) (l lineTable, err error) {
	if t.Profile != Router {
		return l, fmt.Errorf("%s: traces of the profile %s have lines", t.Name, t.Profile)
	}
	r.Linker, r.DWARF = "", true
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
	if l.dwarf, err = f.DWARF(); err != nil {
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

// at returns where the instruction is that many bytes after the beginning of the function: its line, then
// those of the calls that were copied around it, from the inside out. A place is several lines where several functions
// have the name. There is none where nothing is known.
func (l lineTable) at(function string, offset uint64) (places []string, err error) {
	for _, f := range l.named[function] {
		pc := f.Entry + offset
		file, line, _ := l.table.PCToLine(pc)
		if pc >= f.End || line == 0 {
			continue
		}
		calls, err := l.copied(pc)
		if err != nil {
			return nil, err
		}
		for i, at := range append([]string{fmt.Sprintf("%s:%d", file, line)}, calls...) {
			if i == len(places) {
				places = append(places, at)
			} else if !slices.Contains(strings.Split(places[i], or), at) {
				places[i] += or + at
			}
		}
	}
	return places, nil
}

const or = " or "

// copied returns the places of the calls whose functions were copied to around an instruction, from the inside out.
func (l lineTable) copied(pc uint64) (calls []string, err error) {
	entries := l.dwarf.Reader()
	unit, err := entries.SeekPC(pc)
	if errors.Is(err, dwarf.ErrUnknownPC) {
		return nil, nil // between two functions: the trace is of another build, and its other lines are still shown
	}
	if err != nil {
		return nil, err
	}
	lines, err := l.dwarf.LineReader(unit)
	if err != nil {
		return nil, err
	}
	for {
		e, err := entries.Next()
		if err != nil || e == nil || e.Tag == dwarf.TagCompileUnit {
			return calls, err
		}
		if !e.Children && e.Tag != dwarf.TagInlinedSubroutine {
			continue
		}
		inside, err := l.contains(e, pc)
		switch {
		case err != nil:
			return nil, err
		case !inside:
			entries.SkipChildren()
		case e.Tag == dwarf.TagInlinedSubroutine:
			file, _ := e.Val(dwarf.AttrCallFile).(int64)
			line, _ := e.Val(dwarf.AttrCallLine).(int64)
			if files := lines.Files(); file > 0 && int(file) < len(files) {
				calls = slices.Insert(calls, 0, fmt.Sprintf("%s:%d", files[file].Name, line))
			}
		}
	}
}

// contains reports whether an instruction is of an entry.
func (l lineTable) contains(e *dwarf.Entry, pc uint64) (bool, error) {
	ranges, err := l.dwarf.Ranges(e)
	return slices.ContainsFunc(ranges, func(r [2]uint64) bool { return r[0] <= pc && pc < r[1] }), err
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
// no offset of its own: it stands before the one that has.
func (l lineTable) write(w io.Writer, trace string) error {
	lines := strings.Split(trace, "\n")
	trap := false  // the next frame is where a signal came, and not where a call returns to
	var open []int // the places of functions that were copied
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
		open = append(open, i)
		if strings.HasSuffix(lines[i-1], "(...)") {
			continue
		}
		offset := uint64(0)
		if place[2] >= 0 {
			offset, _ = strconv.ParseUint(line[place[2]:place[3]], 16, 64) // it is hexadecimal
		}
		if offset > 0 && !trap {
			offset-- // of the call
		}
		places, err := l.at(cmp.Or(name[1], name[3]), offset)
		if err != nil {
			return err
		}
		for n, at := range places[:min(len(places), len(open))] {
			lines[open[n]] = strings.Replace(lines[open[n]], "?:0", at, 1)
		}
		trap, open = false, nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}
