//go:build !linux

package mirror

import (
	"context"
	"errors"

	"ztm/apps/rooted"
)

// Watcher tells that something below a directory may have changed; here there is none.
type Watcher struct{ C chan struct{} }

// ErrNoWatch says that the system does not tell of changes: the clock has to do.
var ErrNoWatch = errors.New("changes are not told of here")

// Watch cannot.
func Watch(context.Context, *rooted.Dir, Patterns) (*Watcher, error) { return nil, ErrNoWatch }

// Close ends it.
func (w *Watcher) Close() {}
