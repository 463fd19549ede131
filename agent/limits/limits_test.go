package limits

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"ztm/tunnel/memory"
)

func TestEachLimitNamesATestThatReachesIt(t *testing.T) {
	var tests []byte
	for _, pattern := range []string{"../*_test.go", "../authority/*_test.go", "../audit/*_test.go", "../known/*_test.go", "../peers/*_test.go", "../tokens/*_test.go", "../../tunnel/inflight/*_test.go", "../../*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tests = append(tests, b...)
		}
	}
	table, err := os.ReadFile("limits.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\((Test\w+)\)`).FindAllSubmatch(table, -1)
	if len(named) < 15 {
		t.Errorf("limits.go names %d tests", len(named))
	}
	for _, m := range named {
		if !regexp.MustCompile(`func ` + string(m[1]) + `\(`).Match(tests) {
			t.Errorf("limits.go names %s, which is not there", m[1])
		}
	}
}

func TestLimitsFitTheDevice(t *testing.T) {
	small, large := Within(memory.Limit{Bytes: 64 << 20}), Within(memory.Limit{})
	if large.Sessions != 1024 || large.DialBacks != 128 || large.DialBacksPeer != 32 {
		t.Errorf("of a server: %+v", large)
	}
	if small.Sessions*sessionSize > 64<<20/8 || small.DialBacks*handshakeSize > 64<<20/16 || small.DialBacksPeer > small.DialBacks/2 {
		t.Errorf("of a router with 64 MB: %+v", small)
	}
}
