// Replies with the headers of its call, as JSON.
module.exports = (req, res) => {
  res.json(req.headers)
}
