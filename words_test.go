package main

import (
	"go/ast"
	"go/types"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestNamesInJSONAreInCamelCase holds for what people and programs read, for the wire and for what is
// signed. A time is RFC 3339: a [time.Time], or a number of package unixtime. A duration is in
// milliseconds, as an [ztm/apps.Duration] is, never the nanoseconds that encoding/json writes.
func TestNamesInJSONAreInCamelCase(t *testing.T) {
	camel := regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
	instant := regexp.MustCompile(`(^|[a-z])(At|Until|Since|Time|Timestamp|From|Seen|Expires|Issued|Admitted|Added|Changed|Retire|Made|Began|Ended|Restored)$`)
	number := regexp.MustCompile(`^(\*|\[\]|map\[\w+\])*u?int(64|32)?$`)
	theirs := map[string]string{
		"apps/file/transfer/entry.go: Time":  "of a file, in nanoseconds: what is compared to see whether it is the same",
		"apps/cloud/index/index.go: Changed": "the same, and kept here alone",
		"apps/cloud/mirror/scan.go: Changed": "the same, and kept here alone",
		"apps/terminal/record.go: Timestamp": "of an asciicast, which others have defined",
	}
	found := 0
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.pkg, "cross") || strings.HasPrefix(s.pkg, "scripts") || strings.HasPrefix(s.pkg, "store/etcd") {
			continue // these read and write what other programs define
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			tag, err := strconv.Unquote(field.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			if found++; name != "" && name != "-" && !camel.MatchString(name) {
				t.Errorf("%v: %q", s.at(field.Pos()), name)
			}
			if of, ok := field.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "Duration" && name != "-" {
				if x, ok := of.X.(*ast.Ident); ok && x.Name == "time" && reflect.StructTag(tag).Get("json") != "" {
					t.Errorf("%v: %q is written in nanoseconds", s.at(field.Pos()), name)
				}
			}
			if number.MatchString(types.ExprString(field.Type)) && name != "" && name != "-" {
				for _, n := range field.Names {
					if at := s.path + ": " + n.Name; instant.MatchString(n.Name) && theirs[at] == "" {
						t.Errorf("%v: %q is a time, and written as a number", s.at(field.Pos()), name)
					}
				}
			}
			return true
		})
	}
	if found < 100 {
		t.Errorf("only %d names were seen", found)
	}
}
