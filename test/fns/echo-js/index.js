// Replies with what it was called with.
module.exports = (req, res) => {
  res.send(req.body)
}
