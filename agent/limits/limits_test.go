package limits

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"ztm/tunnel/memory"
)

func TestEachLimitNamesATestThatReachesIt(t *testing.T) {
	var tests []byte
	for _, pattern := range []string{"../*_test.go", "../authority/*_test.go", "../audit/*_test.go", "../known/*_test.go", "../peers/*_test.go", "../state/*_test.go", "../tokens/*_test.go", "../../tunnel/inflight/*_test.go", "../../tunnel/limit/*_test.go", "../../*_test.go"} {
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
	f, err := parser.ParseFile(token.NewFileSet(), "limits.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	check := func(name *ast.Ident, doc *ast.CommentGroup) {
		if !name.IsExported() || name.Name == "Table" {
			return
		}
		checked++
		m := regexp.MustCompile(`\((Test\w+)\)`).FindStringSubmatch(doc.Text())
		if m == nil || !regexp.MustCompile(`func `+m[1]+`\(`).Match(tests) {
			t.Errorf("%s: its comment names no test that is there", name)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				check(name, n.Doc)
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				check(name, n.Doc)
			}
		}
		return true
	})
	if checked < 30 {
		t.Errorf("only %d limits were found", checked)
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
