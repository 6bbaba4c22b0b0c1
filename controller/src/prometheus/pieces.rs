//! Cuts an answer into its series while it comes, so that no more than one of them is held as text. Pure; must not know what a
//! series is.
//!
//! # Guarantees
//! What is left when the pieces are cut out is JSON exactly when the answer was, given that each piece is: in place of each stands a
//! `null`. So the strict reading of the pieces and of the rest is the strict reading of the whole, however it was sent.

/// A series longer than this is none of a scrape every second for ten minutes.
const LONGEST: usize = 8 << 20;
/// What is left of a million series.
const MOST_LEFT: usize = 8 << 20;

/// An answer that is being read.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// All but the pieces.
    rest: Vec<u8>,
    /// The beginning of a piece whose end has not come.
    piece: Vec<u8>,
    cut: usize,
    place: Place,
    /// How deep in the rest, and in a piece.
    depth: usize,
    piece_depth: usize,
    in_string: bool,
    escaped: bool,
    /// Where in the rest the last string began and ended.
    string: (usize, usize),
    /// Whether the members that are being read at the first two depths are `data` and `result`.
    on_way: [bool; 2],
}

/// Where the last byte was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Elsewhere,
    /// In `data.result`, between its elements.
    AmongPieces,
    InPiece,
}

/// It is no answer of Prometheus: a part of it is longer than any could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Pieces {
    /// Reads on. Each piece goes to `each`, in order.
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), TooLong> {
        while let Some((first, _)) = bytes.split_first() {
            if self.place == Place::InPiece {
                let (taken, ended) = self.in_piece(bytes);
                let (part, later) = bytes.split_at(taken);
                bytes = later;
                if !ended || !self.piece.is_empty() {
                    self.piece.extend_from_slice(part);
                    if self.piece.len() > LONGEST {
                        return Err(TooLong);
                    }
                }
                if ended {
                    self.place = Place::AmongPieces;
                    let piece = std::mem::take(&mut self.piece);
                    each(if piece.is_empty() { part } else { &piece });
                    self.cut += 1;
                    self.rest.extend_from_slice(b"null");
                }
            } else if self.place == Place::AmongPieces && !self.in_string && matches!(first, b'{' | b'[') {
                self.place = Place::InPiece;
            } else {
                self.outside(*first);
                bytes = bytes.get(1..).unwrap_or_default();
            }
            if self.rest.len() > MOST_LEFT {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    /// What is left, and how many pieces were cut out of it.
    pub(super) fn rest(self) -> (Vec<u8>, usize) {
        let Self {
            mut rest, piece, cut, ..
        } = self;
        // A piece that never ended is no JSON, and so is the rest with it.
        rest.extend(piece);
        (rest, cut)
    }

    /// How many of the bytes belong to the piece, and whether it ends with them.
    fn in_piece(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                self.within_string(*byte);
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.piece_depth += 1,
                b'}' | b']' => {
                    self.piece_depth -= 1;
                    if self.piece_depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ => {}
            }
        }
        (bytes.len(), false)
    }

    fn outside(&mut self, byte: u8) {
        self.rest.push(byte);
        let end = self.rest.len();
        if self.in_string {
            self.within_string(byte);
            if !self.in_string {
                self.string.1 = end - 1;
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.string = (end, end);
            }
            b':' => {
                let name = self.rest.get(self.string.0..self.string.1);
                let wanted = [&b"data"[..], b"result"];
                let here = self.depth.checked_sub(1);
                if let Some((slot, wanted)) = here.and_then(|i| Some((self.on_way.get_mut(i)?, wanted.get(i)?))) {
                    *slot = name == Some(wanted);
                }
            }
            b',' => self.leave(self.depth),
            b'{' | b'[' => {
                let opens = byte == b'[' && self.depth == 2 && self.on_way == [true, true];
                self.place = if opens { Place::AmongPieces } else { Place::Elsewhere };
                self.depth += 1;
                self.leave(self.depth);
            }
            b'}' | b']' => {
                self.place = Place::Elsewhere;
                self.leave(self.depth);
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// The member that was read at this depth is over.
    fn leave(&mut self, depth: usize) {
        if let Some(slot) = depth.checked_sub(1).and_then(|i| self.on_way.get_mut(i)) {
            *slot = false;
        }
    }

    fn within_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(parts: &[&[u8]]) -> (Vec<String>, String) {
        let (mut pieces, mut cut) = (Pieces::default(), Vec::new());
        for part in parts {
            pieces
                .feed(part, &mut |piece| cut.push(String::from_utf8_lossy(piece).into_owned()))
                .unwrap();
        }
        (cut, String::from_utf8_lossy(&pieces.rest().0).into_owned())
    }

    const ANSWER: &str = r#"{"status":"success","data":{"result":[{"metric":{"a":"]}\"{"},"values":[[1,"2"]]} , [3],
        {}],"resultType":"matrix"},"result":[{"no":1}],"warnings":["data"]}"#;

    #[test]
    fn the_series_are_cut_out_and_the_rest_is_left() {
        let (pieces, rest) = cut(&[ANSWER.as_bytes()]);
        assert_eq!(pieces, [r#"{"metric":{"a":"]}\"{"},"values":[[1,"2"]]}"#, "[3]", "{}"]);
        insta::assert_snapshot!(rest, @r#"
        {"status":"success","data":{"result":[null , null,
                null],"resultType":"matrix"},"result":[{"no":1}],"warnings":["data"]}
        "#);
    }

    #[test]
    fn what_stands_elsewhere_is_no_piece() {
        for other in [
            r#"{"data":[{"result":[{}]}]}"#,
            r#"{"x":{"result":[{}]},"data":{"results":[{}]}}"#,
            r#"{"data":{"x":"result","y":[{}]}}"#,
            r#"{"data":{"result":{"result":[{}]}}}"#,
            r#"[{"data":{"result":[{}]}}]"#,
        ] {
            assert_eq!(cut(&[other.as_bytes()]), (vec![], other.to_owned()));
        }
    }

    #[test]
    fn what_is_cut_wrong_is_no_json_afterwards() {
        for wrong in [
            r#"{"data":{"result":[{}{}]}}"#,
            r#"{"data":{"result":[5{}]}}"#,
            r#"{"data":{"result":[{}5]}}"#,
            r#"{"data":{"result":[{},]}}"#,
            r#"{"data":{"result":[{}}}"#,
            r#"{"data":{"result":[{"#,
        ] {
            let (_, rest) = cut(&[wrong.as_bytes()]);
            assert!(serde_json::from_str::<serde_json::Value>(&rest).is_err(), "{rest}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_sent_the_pieces_are_the_same(cuts in prop::collection::vec(0..ANSWER.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.extend([0, ANSWER.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|ends| &ANSWER.as_bytes()[ends[0]..ends[1]]).collect();
            prop_assert_eq!(cut(&parts), cut(&[ANSWER.as_bytes()]));
        }
    }
}
