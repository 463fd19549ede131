package metric

import (
	"runtime"
	"strings"
	"testing"
)

func TestAProcessSaysWhatItHasOfTheSystem(t *testing.T) {
	var set Set
	set.With().Process("ztm_test")
	var b strings.Builder
	set.WriteTo(&b)
	want := []string{"ztm_test_goroutines"}
	if runtime.GOOS == "linux" {
		want = append(want, "ztm_test_open_fds", "ztm_test_resident_memory_bytes")
	}
	for _, name := range want {
		if _, value, found := strings.Cut(b.String(), "\n"+name+" "); !found || value[0] < '1' || value[0] > '9' {
			t.Errorf("%s is not told:\n%s", name, b.String())
		}
	}
}
