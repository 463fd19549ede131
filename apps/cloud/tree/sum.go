package tree

import (
	"errors"
	"io/fs"
	"os"

	"ztm/apps/cloud/blocks"
	"ztm/tunnel/answer"
)

// readings is how often a file that changes meanwhile is read again.
const readings = 3

// ErrChanging is that a file did not stand still.
var ErrChanging = answer.Errorf(answer.Conflict, "the file is changing; try again when it is complete")

// Sum reads a file until it has read one state of it:
//
//	open -> look at it -> hash -> look again: the same?
//	             \------------- no: again, a few times
//
// A directory has the content [blocks.Directory].
func (t *Tree) Sum(user, path string) (c blocks.Content, list blocks.List, info fs.FileInfo, err error) {
	for range readings {
		if c, list, info, err = t.sumOnce(user, path); !errors.Is(err, blocks.ErrSize) {
			return c, list, info, err
		}
	}
	return c, nil, nil, ErrChanging
}

// sumOnce reads a file once. One that has changed meanwhile is [blocks.ErrSize].
func (t *Tree) sumOnce(user, path string) (c blocks.Content, list blocks.List, info fs.FileInfo, err error) {
	f, info, err := t.Open(user, path)
	if err != nil {
		if dir, derr := t.StatDir(user, path); derr == nil {
			return blocks.Directory, nil, dir, nil
		}
		return c, nil, nil, err
	}
	defer f.Close()
	if info.Size() > blocks.MaxSize {
		return c, nil, nil, answer.Errorf(answer.BadRequest, "%s has more than %d bytes", path, int64(blocks.MaxSize))
	}
	if c, list, err = blocks.Sum(f, info.Size()); err != nil {
		return c, nil, nil, err
	}
	after, err := t.Stat(user, path)
	if err == nil && (!os.SameFile(info, after) || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime())) {
		err = blocks.ErrSize
	}
	return c, list, info, err
}
