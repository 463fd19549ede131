//go:build !linux

package confine

import (
	"fmt"
	"runtime"
)

func find() (Means, error) {
	return Means{}, fmt.Errorf("%w: %s is not known", ErrUnable, runtime.GOOS)
}
