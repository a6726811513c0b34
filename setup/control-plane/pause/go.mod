module lakehouse.dev/setup/pause

go 1.24.0
