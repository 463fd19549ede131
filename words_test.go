package main

import (
	"go/ast"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestNamesInJSONAreInCamelCase holds for what people and programs read, and for the wire. A time is
// a [time.Time], which is RFC 3339, or a number whose unit the field's comment says; a duration is an
// [ztm/apps.Duration], which is in milliseconds, never the nanoseconds that encoding/json writes.
func TestNamesInJSONAreInCamelCase(t *testing.T) {
	camel := regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
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
			return true
		})
	}
	if found < 100 {
		t.Errorf("only %d names were seen", found)
	}
}
