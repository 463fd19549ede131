// Package reach is how an endpoint says what it reaches, and how it reaches it: one grammar of hosts and ports for all
// apps, and one dialler.
//
//	Dest     where somebody wants to go: one spelling for each name and address     dest.go
//	Pattern  which destinations a target, a rule or a route is about                pattern.go ports.go
//	Dialer   connects to the first of several addresses that answers (RFC 8305)     dial.go
//	Explain  what a failed connection means to the one who asked for it             explain.go
//
// It knows no app and decides nothing: who may reach what is the business of the apps.
package reach
