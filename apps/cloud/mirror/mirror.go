// Package mirror keeps a directory in step with what is published below a prefix.
//
//	watch (or the clock) -> scan -> stood still? -> Make: what is here, what was last, what is published -> actions
//
// What is done is decided by one function, [Make], which touches nothing. Nothing is taken for
// deleted in a directory that is not marked as the mirror's, and many deletions wait for a person.
// What is at rest costs nothing: nothing is written but after a change, and where the system tells of
// changes nothing is looked at.
package mirror
