module queuebench/gochannel

go 1.21
