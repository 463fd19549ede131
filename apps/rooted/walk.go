package rooted

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
)

// maxDepth is how many directories a walk goes down: it holds a handle of each.
const maxDepth = 256

// SkipDir is what a function of [Dir.Walk] returns to leave out what is in a directory.
var SkipDir = fs.SkipDir

// Walk calls a function for everything below d, names sorted, a directory before what is in it. It
// follows no link: links, devices and the like come as they are, to be told as left out. in is the
// directory that n is in; it is closed afterwards. What cannot be read comes with an error, and the
// walk goes on. An error of the function ends the walk, but for [SkipDir].
func (d *Dir) Walk(each func(in *Dir, n Name, p Path, info fs.FileInfo, err error) error) error {
	return d.walk(Path{}, each, 0)
}

func (d *Dir) walk(at Path, each func(*Dir, Name, Path, fs.FileInfo, error) error, depth int) error {
	names, err := d.Names()
	if err == nil && depth > maxDepth {
		err = fmt.Errorf("deeper than %d directories", maxDepth)
	}
	if err != nil {
		_, n := at.Split()
		return each(d, n, at, nil, err)
	}
	slices.SortFunc(names, func(a, b Name) int { return cmp.Compare(a.s, b.s) })
	for _, n := range names {
		if err := d.visit(at, n, each, depth); err != nil {
			return err
		}
	}
	return nil
}

// visit walks one name.
func (d *Dir) visit(at Path, n Name, each func(*Dir, Name, Path, fs.FileInfo, error) error, depth int) error {
	p, err := at.Join(n)
	var info fs.FileInfo
	if err == nil {
		info, err = d.Stat(n)
	}
	if err != nil {
		return each(d, n, p, nil, err)
	}
	switch err := each(d, n, p, info, nil); {
	case err == SkipDir && info.IsDir():
		return nil
	case err != nil || !info.IsDir():
		return err
	}
	sub, err := d.Sub(n)
	if err != nil {
		return each(d, n, p, nil, err)
	}
	defer sub.Close()
	return sub.walk(p, each, depth+1)
}
