package process

import (
	"os"
	"testing"
	"time"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// eventually reports whether the condition comes true in time.
func eventually(condition func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(60 * time.Second)
	for !condition() {
		select {
		case <-look.C:
		case <-late:
			return false
		}
	}
	return true
}
