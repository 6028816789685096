meta:
  id: tapeline_frames
  title: Tapeline frames, the records of topics raw, ticks, bars and state
  application: Tapeline
  license: Apache-2.0
  ks-version: '0.10'
  endian: le
doc: |
  One Kafka record is one frame; `frame` says which, by its first four bytes. All numbers are little-endian, all times
  int64 nanoseconds UTC. The last eight bytes of each are XXH3-64 over all bytes before them: check them first, which
  Kaitai Struct itself cannot do. A version other than 1 is not described here and is refused.
seq:
  - id: frame
    type:
      switch-on: magic
      cases:
        'magic::raw_frame': raw_frame
        'magic::tick_frame': tick_frame
        'magic::bar_frame': bar_frame
        'magic::snapshot': snapshot
instances:
  magic:
    pos: 0
    type: u4
    enum: magic
enums:
  magic:
    0x57524c54:
      id: raw_frame
      doc: The letters TLRW
    0x4b544c54:
      id: tick_frame
      doc: The letters TLTK
    0x52424c54:
      id: bar_frame
      doc: The letters TLBR
    0x54534c54:
      id: snapshot
      doc: The letters TLST
  kind:
    1: trade
    2: quote
    3: book
    4: gap
    5: status
    6: time
    7: control
    8: mark
    9: funding
  bar_kind:
    1: time
    2: tick
    3: volume
    4: dollar
types:
  raw_frame:
    doc: Messages as received on one connection; no messages means a TIME record.
    seq:
      - id: magic
        contents: TLRW
      - id: version
        type: u1
        valid: 1
      - id: reserved
        type: u1
      - id: flags
        type: u2
      - id: count
        type: u4
        doc: how many messages
      - id: source_bytes
        type: u2
      - id: epoch
        type: u2
        doc: who had the lease of a live connection, 0 without a lease
      - id: first_message
        type: s8
        doc: number of the first message in its connection, 0 starts a new session
      - id: time_ns
        type: s8
        doc: the connection's clock, the running maximum of receive times
      - id: recv_ns
        type: s8
        repeat: expr
        repeat-expr: count
        doc: receive time of each message
      - id: ends
        type: u4
        repeat: expr
        repeat-expr: count
        doc: where each message ends, counted from the start of the first
      - id: source
        type: str
        size: source_bytes
        encoding: UTF-8
        doc: venue/connection
      - id: messages
        type: message(_index)
        repeat: expr
        repeat-expr: count
      - id: checksum
        type: u8
    instances:
      is_end:
        value: (flags & 0x0002) != 0
        doc: the connection or file ends with this frame
      is_feed:
        value: (flags & 0x0004) != 0
        doc: the messages are our own feed's, none is the venue's
  message:
    params:
      - id: index
        type: s4
    seq:
      - id: body
        size: '_parent.ends[index] - (index == 0 ? 0 : _parent.ends[index - 1])'
    -webide-representation: '{body}'
  tick_frame:
    doc: |
      Ticks of one partition of topic ticks, from one record of topic raw (or a part of it), in order of arrival.
      Along a lane, (origin_offset, part) only grows: skip a frame that is not above the highest one seen on its lane.
    seq:
      - id: magic
        contents: TLTK
      - id: version
        type: u1
        valid: 1
      - id: part
        type: u1
      - id: flags
        type: u2
      - id: count
        type: u4
        doc: how many ticks
      - id: lane
        type: lane
      - id: origin_offset
        type: s8
        doc: offset in topic raw
      - id: time_ns
        type: s8
        doc: the receive clock, a running maximum
      - id: ticks
        type: tick
        repeat: expr
        repeat-expr: count
      - id: checksum
        type: u8
    instances:
      is_more:
        value: (flags & 0x0001) != 0
        doc: another part of the same raw record follows
  lane:
    doc: one u4, raw partition in its upper half
    seq:
      - id: ticks_partition
        type: u2
      - id: raw_partition
        type: u2
  tick:
    doc: 64 bytes, one cache line
    seq:
      - id: ts_event_ns
        type: s8
        doc: when it happened at the venue; may go back
      - id: ts_recv_ns
        type: s8
        doc: when the recorder received it
      - id: sequence
        type: s8
        doc: the venue's own number, 0 if it gives none; of a gap, the first missing one
      - id: instrument_id
        type: u4
        doc: from topic instruments
      - id: kind
        type: u1
        enum: kind
      - id: side
        type: s1
        doc: 1 buy or bid, -1 sell or ask, 0 not given; of a trade, the aggressor
      - id: flags
        type: u2
      - id: price
        type: f8
        doc: of a quote, the bid; of a gap, the reason (1 = the venue's numbers jumped)
      - id: size
        type: f8
        doc: of a quote, the bid size; of a book level, 0 removes it; of a gap, how many are missing (0 = unknown)
      - id: price2
        type: f8
        doc: of a quote, the ask; of a gap, the kind that is missing
      - id: size2
        type: f8
        doc: of a quote, the ask size
    instances:
      is_snapshot:
        value: (flags & 0x0001) != 0
        doc: part of a full picture, not a change
      is_last:
        value: (flags & 0x0002) != 0
        doc: last tick of its event (a depth update is many ticks)
      is_outlier:
        value: (flags & 0x0004) != 0
      is_stale:
        value: (flags & 0x0008) != 0
      is_crossed:
        value: (flags & 0x0010) != 0
        doc: bid above ask
      is_one_sided:
        value: (flags & 0x0020) != 0
        doc: bid or ask not given
      is_late:
        value: (flags & 0x0040) != 0
        doc: its sequence is not above the one before it
      is_inexact:
        value: (flags & 0x0080) != 0
        doc: a number had more than 15 significant digits
      is_locked:
        value: (flags & 0x0100) != 0
        doc: bid equals ask
  bar_frame:
    doc: |
      Bars of one partition of topic bars and one interval, from one record of topic ticks. For each stream and lane,
      (origin_offset, part) only grows: skip a frame that is not above the highest one seen.
    seq:
      - id: magic
        contents: TLBR
      - id: version
        type: u1
        valid: 1
      - id: reserved
        type: u1
      - id: part
        type: u2
        doc: that of the tick frame x 256, plus the number of this frame among those it made
      - id: count
        type: u4
        doc: how many bars
      - id: lane
        type: lane
        doc: that of the tick frame
      - id: origin_offset
        type: s8
        doc: that of the tick frame, an offset in topic raw
      - id: time_ns
        type: s8
        doc: the receive clock, a running maximum
      - id: stream
        type: u4
        doc: hash of the configuration; bars of another stream are others
      - id: reserved2
        type: u4
      - id: bars
        type: bar
        repeat: expr
        repeat-expr: count
      - id: checksum
        type: u8
  bar:
    doc: 104 bytes; instrument_id, kind, size and number name a bar, of which the highest revision counts
    seq:
      - id: start_ns
        type: s8
        doc: of a bar of time, the begin of its interval; of others, the event time of the first trade
      - id: end_ns
        type: s8
        doc: of a bar of time, the end of its interval, exclusive; of others, the event time of the last trade
      - id: number
        type: s8
        doc: which bar it is
      - id: instrument_id
        type: u4
        doc: from topic instruments
      - id: kind
        type: u1
        enum: bar_kind
      - id: flags
        type: u1
      - id: revision
        type: u2
        doc: 0 at first
      - id: size
        type: f8
        doc: nanoseconds, trades, volume or notional of a bar, by kind
      - id: open
        type: f8
      - id: high
        type: f8
      - id: low
        type: f8
      - id: close
        type: f8
      - id: volume
        type: f8
      - id: notional
        type: f8
        doc: sum of price x size; by volume, the average price
      - id: buy_volume
        type: f8
        doc: of trades whose aggressor bought
      - id: trades
        type: s8
    instances:
      is_late:
        value: (flags & 0x01) != 0
        doc: a trade came after it had closed
      is_partial:
        value: (flags & 0x02) != 0
        doc: data is missing in it, or it began in the middle
  snapshot:
    doc: State of one unit of a role; internal to Tapeline.
    seq:
      - id: magic
        contents: TLST
      - id: version
        type: u1
        valid: 1
      - id: reserved
        size: 3
      - id: meta_bytes
        type: u4
      - id: reserved2
        type: u4
      - id: next_offset
        type: s8
        doc: the first input offset that is not yet in the state
      - id: time_ns
        type: s8
        doc: the unit's clock
      - id: meta
        type: str
        size: meta_bytes
        encoding: UTF-8
        doc: a JSON object
      - id: payload
        size: _io.size - _io.pos - 8
      - id: checksum
        type: u8
