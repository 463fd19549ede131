package limits

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/memory"
)

func TestLimitsFollowTheMemory(t *testing.T) {
	large := Limits{Agents: 10_000, EndpointsPerUser: 1000, Paths: 20_000, PathsPerUser: 2000, Hops: 10_000, Pending: 128, PendingAt: 256,
		Legs: 128, Control: 4, Handshakes: 1024, HandshakesPerSource: 256, Joins: 256, JoinsPerSource: 64}
	for _, tt := range []struct {
		name   string
		memory int64
		said   Limits
		want   Limits
	}{
		{"unknown", 0, Limits{}, large},
		{"a server", 4 << 30, Limits{}, large},
		{"a router", 64 << 20, Limits{}, Limits{Agents: 256, EndpointsPerUser: 256, Paths: 512, PathsPerUser: 256, Hops: 256, Pending: 128,
			PendingAt: 256, Legs: 64, Control: 4, Handshakes: 64, HandshakesPerSource: 32, Joins: 64, JoinsPerSource: 16}},
		{"a router whose owner knows better", 64 << 20, Limits{Agents: 5000, Paths: 3000}, Limits{Agents: 5000, EndpointsPerUser: 1000,
			Paths: 3000, PathsPerUser: 1500, Hops: 1500, Pending: 128, PendingAt: 256, Legs: 64, Control: 4, Handshakes: 64, HandshakesPerSource: 32, Joins: 64, JoinsPerSource: 16}},
		{"a container of nearly nothing", 4 << 20, Limits{}, Limits{Agents: 16, EndpointsPerUser: 16, Paths: 32, PathsPerUser: 16, Hops: 16,
			Pending: 128, PendingAt: 256, Legs: 16, Control: 4, Handshakes: 64, HandshakesPerSource: 16, Joins: 16, JoinsPerSource: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.said.within(memory.Limit{Bytes: tt.memory})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// parse reads a file of this package.
func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// tests returns the names of the tests of the hub and of its rooms.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob("../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range append(files, below...) {
		for _, d := range parse(t, file).Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

// The table of limits says of each which test takes all that it can get.
func TestEveryLimitHasItsTest(t *testing.T) {
	known := tests(t)
	named := regexp.MustCompile(`Test:\s+(Test\w+)\.`)
	checked := 0
	check := func(name string, doc *ast.CommentGroup) {
		checked++
		if m := named.FindStringSubmatch(doc.Text()); m == nil || !known[m[1]] {
			t.Errorf("%s: its comment names no test of the hub", name)
		}
	}
	ast.Inspect(parse(t, "limits.go"), func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			for _, f := range n.Fields.List {
				check(f.Names[0].Name, f.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range n.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && v.Comment == nil { // those with a comment behind them are sizes
					check(v.Names[0].Name, v.Doc)
				}
			}
		}
		return true
	})
	if checked < 25 {
		t.Errorf("only %d limits were found", checked)
	}
}
