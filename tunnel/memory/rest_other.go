//go:build !linux

package memory

import "context"

// GiveBack does nothing: these systems do it by themselves, or have memory enough.
func GiveBack(context.Context) {}
