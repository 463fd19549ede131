// Package builtin says which apps were built into this binary. Each is a constant in a pair of files,
// of which the build tag ztm_omit_NAME takes the other one; what is behind a constant that is false is
// not linked. Package agent/feature says so of all else, and lists both.
package builtin
