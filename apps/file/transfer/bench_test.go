package transfer

import (
	"fmt"
	"path/filepath"
	"testing"
)

// BenchmarkCopy copies 10,000 files of 1 KB, and beside it one of 10 MB.
func BenchmarkCopy(b *testing.B) {
	from := b.TempDir()
	for i := range 10000 {
		put(b, filepath.Join(from, "small", fmt.Sprint(i%100), fmt.Sprint(i)), random(1000))
	}
	put(b, filepath.Join(from, "large"), random(10_000_000))
	for _, name := range []string{"large", "small"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				to := b.TempDir()
				b.StartTimer()
				clean(b, from, name, to, Options{})
			}
		})
	}
}
