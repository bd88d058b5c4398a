// The yardstick of benches/queue_memory.rs: a Go buffered channel of 152-byte messages whose counters a
// mutex guards, as a service would write it. Run:
//
//	cd benches/go_channel && go test -bench . -count 5 -benchtime 1s
package gochannel

import (
	"sync"
	"testing"
)

const (
	capacity = 1000
	workers  = 4
)

type message struct {
	words [19]uint64
}

type queue struct {
	messages chan message

	mu       sync.Mutex
	enqueued uint64
	dequeued uint64
}

func newQueue() *queue {
	return &queue{messages: make(chan message, capacity)}
}

// publish rejects when the queue is full.
func (q *queue) publish(m message) bool {
	select {
	case q.messages <- m:
		q.mu.Lock()
		q.enqueued++
		q.mu.Unlock()
		return true
	default:
		return false
	}
}

func (q *queue) receive() message {
	m := <-q.messages
	q.mu.Lock()
	q.dequeued++
	q.mu.Unlock()
	return m
}

var sink uint64

// One goroutine publishes a message and receives it.
func BenchmarkPairWithCounters(b *testing.B) {
	q := newQueue()
	var m message
	for i := 0; i < b.N; i++ {
		m.words[0] = uint64(i)
		if !q.publish(m) {
			b.Fatal("full")
		}
		got := q.receive()
		sink += got.words[0]
	}
}

func BenchmarkPairWithoutCounters(b *testing.B) {
	messages := make(chan message, capacity)
	var m message
	for i := 0; i < b.N; i++ {
		m.words[0] = uint64(i)
		messages <- m
		got := <-messages
		sink += got.words[0]
	}
}

// 4 goroutines publish and wait when it is full, 4 receive.
func BenchmarkFourToFourWithCounters(b *testing.B) {
	q := newQueue()
	each := b.N/workers + 1
	var all sync.WaitGroup
	b.ResetTimer()
	for w := 0; w < workers; w++ {
		all.Add(2)
		go func() {
			defer all.Done()
			var m message
			for i := 0; i < each; i++ {
				m.words[0] = uint64(i)
				q.messages <- m
				q.mu.Lock()
				q.enqueued++
				q.mu.Unlock()
			}
		}()
		go func() {
			defer all.Done()
			for i := 0; i < each; i++ {
				q.receive()
			}
		}()
	}
	all.Wait()
}
