module metrics

go 1.24
