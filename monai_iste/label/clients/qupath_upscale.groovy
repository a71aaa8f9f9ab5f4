// Send the bounding box of the selected annotation, or the visible region if none is selected, to a MONAI Label server
// that runs the monai_iste app, and show the super-resolved region in a new window.
//
// Start the server on the folder that holds the slide: python -m monai_iste.label FOLDER
// In QuPath: Automate > Script editor, open this file, Run.

import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import javafx.application.Platform
import javafx.scene.Scene
import javafx.scene.control.ScrollPane
import javafx.scene.image.Image
import javafx.scene.image.ImageView
import javafx.stage.Stage

def address = 'http://127.0.0.1:8000'
def scale = 3.7

def server = getCurrentServer()
def path = server.getURIs()[0].getPath()
def name = path.substring(path.lastIndexOf('/') + 1)

// Whole pixels of level 0, inside the slide.
def roi = getSelectedROI()
def bounds = roi == null ? getCurrentViewer().getDisplayedRegionShape().getBounds2D() : null
def corner = roi == null ? [bounds.getX(), bounds.getY()] : [roi.getBoundsX(), roi.getBoundsY()]
def extent = roi == null ? [bounds.getWidth(), bounds.getHeight()] : [roi.getBoundsWidth(), roi.getBoundsHeight()]
def whole = [server.getWidth(), server.getHeight()]
def first = [0, 1].collect { Math.max(0, Math.floor(corner[it] as double) as int) }
def last = [0, 1].collect { Math.min(whole[it] as int, Math.ceil((corner[it] + extent[it]) as double) as int) }
def size = [last[0] - first[0], last[1] - first[1]]

def params = """{"scale": ${scale}, "location": ${first}, "size": ${size}, "result_extension": ".png"}"""
def encode = { text -> URLEncoder.encode(text.toString(), StandardCharsets.UTF_8) }
def request = HttpRequest.newBuilder(URI.create("${address}/infer/iste?image=${encode(name)}&output=image"))
    .header('Content-Type', 'application/x-www-form-urlencoded')
    .POST(HttpRequest.BodyPublishers.ofString("params=${encode(params)}"))
    .build()
def response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofByteArray())
if (response.statusCode() != 200) {
    throw new IOException(new String(response.body(), StandardCharsets.UTF_8))
}

Path file = Files.createTempFile("${name}_x${scale}_".toString(), '.png')
Files.write(file, response.body())
println "x${scale} of ${size[0]} x ${size[1]} pixels from ${first[0]}, ${first[1]}: ${file}"

Platform.runLater {
    def stage = new Stage()
    stage.setTitle("${name} x${scale} (inferred, not measured)")
    stage.setScene(new Scene(new ScrollPane(new ImageView(new Image(file.toUri().toString()))), 1000, 800))
    stage.show()
}
