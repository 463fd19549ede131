package blocks

// Directory is the content of a directory: there is nothing in it that could be fetched. No file has
// that hash.
var Directory = Content{Hash: Hash{'d', 'i', 'r', 'e', 'c', 't', 'o', 'r', 'y'}}
