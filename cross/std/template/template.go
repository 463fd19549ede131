// Package template stands in for the standard library's text/template in the binaries that we
// release. Nobody runs a template: the command line's parser can print its help by one, and is
// never asked to. But the linker cannot know, and a program that holds text/template calls methods
// by names that are found at run time, so the linker has to keep every exported method of every
// type: a fifth of the binary.
//
// It is our own, and has only what the parser's source mentions. A package that needs more does not
// compile in a release, and that is how we would notice.
package template

import (
	"errors"
	"io"
)

// ErrLeftOut is returned by everything that would have to understand a template.
var ErrLeftOut = errors.New("template: left out of this build")

// FuncMap names functions for templates.
type FuncMap map[string]any

// Template is a template that does nothing.
type Template struct{}

// New returns a template.
func New(string) *Template { return &Template{} }

// Must returns t.
func Must(t *Template, _ error) *Template { return t }

// New returns t.
func (t *Template) New(string) *Template { return t }

// Funcs returns t.
func (t *Template) Funcs(FuncMap) *Template { return t }

// Parse returns t and [ErrLeftOut].
func (t *Template) Parse(string) (*Template, error) { return t, ErrLeftOut }

// Execute writes nothing and returns [ErrLeftOut].
func (t *Template) Execute(io.Writer, any) error { return ErrLeftOut }

// ExecuteTemplate writes nothing and returns [ErrLeftOut].
func (t *Template) ExecuteTemplate(io.Writer, string, any) error { return ErrLeftOut }
