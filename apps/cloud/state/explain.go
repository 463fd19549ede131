package state

import (
	"errors"
	"io/fs"
	"os"
)

// Explain returns what a person gets to read of an error: without the places of this machine.
func Explain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		err = l.Err
	}
	return err.Error()
}
